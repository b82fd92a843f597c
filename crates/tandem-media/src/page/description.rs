//! The session descriptions (RFC 8866) of a page and of this end: only what one stream of Opus needs.
//!
//! The page's offer is read by hand and the answer written from what was understood, so nothing of what a page may say
//! reaches the media engine but numbers and short names.

use std::net::SocketAddr;

use super::OfferError;

/// The longest offer that is read.
const OFFER_BYTES_MAX: usize = 64 * 1024;
/// RFC 5888 §4 has no bound; browsers use a character or two.
const MID_MAX: usize = 16;
/// The rate the page is asked for, as a voice has it in any other endpoint.
const BITS_PER_SECOND: u32 = 32_000;

/// What of an offer matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) ufrag: String,
    pub(super) password: String,
    /// SHA-256.
    pub(super) fingerprint: Vec<u8>,
    pub(super) mid: String,
    /// Of Opus, as the page numbers it.
    pub(super) payload_type: u8,
    /// Of the page's stream; `None` when it only listens.
    pub(super) ssrc: Option<u32>,
    pub(super) hears: bool,
}

impl Offer {
    pub(super) fn parse(text: &str) -> Result<Self, OfferError> {
        if text.len() > OFFER_BYTES_MAX {
            return Err(OfferError::TooLong(text.len()));
        }
        if !text.starts_with("v=0") {
            return Err(OfferError::NoDescription);
        }
        let lines = Lines::of(text)?;
        if lines.flag("ice-lite") {
            return Err(OfferError::Wrong("role in ICE"));
        }
        if !lines.flag("rtcp-mux") {
            return Err(OfferError::Missing("a=rtcp-mux"));
        }
        if !matches!(lines.value("setup"), Some("actpass" | "active")) {
            return Err(OfferError::Wrong("role in DTLS"));
        }
        let (speaks, hears) = lines.direction();
        let ssrc = if speaks { Some(lines.ssrc()?) } else { None };
        Ok(Self {
            ufrag: lines.credential("ice-ufrag", 4)?,
            password: lines.credential("ice-pwd", 22)?,
            fingerprint: lines.fingerprint()?,
            mid: lines.mid()?,
            payload_type: lines.opus()?,
            ssrc,
            hears,
        })
    }
}

/// The attributes that hold for the one stream: its own, then those of the whole session.
struct Lines<'a> {
    stream: Vec<&'a str>,
    session: Vec<&'a str>,
    /// The formats its line of the stream names.
    formats: Vec<&'a str>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Result<Self, OfferError> {
        let mut lines = Self { stream: Vec::new(), session: Vec::new(), formats: Vec::new() };
        let mut streams = 0;
        for line in text.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                streams += 1;
                lines.formats = formats(media).unwrap_or_default();
            } else if let Some(attribute) = line.strip_prefix("a=") {
                let list = if streams == 0 { &mut lines.session } else { &mut lines.stream };
                list.push(attribute.trim_end());
            }
        }
        match streams {
            1 if lines.formats.is_empty() => Err(OfferError::Wrong("stream")),
            1 => Ok(lines),
            _ => Err(OfferError::Streams(streams)),
        }
    }

    fn all(&self) -> impl Iterator<Item = &'a str> {
        self.stream.iter().chain(&self.session).copied()
    }

    fn flag(&self, name: &str) -> bool {
        self.all().any(|line| line == name)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.all().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(':'))
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// RFC 8839 §5.4: so many characters of a small alphabet, at most 256.
    fn credential(&self, name: &'static str, shortest: usize) -> Result<String, OfferError> {
        let value = self.value(name).ok_or(OfferError::Missing(name))?;
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        // Firefox and Chromium keep to the alphabet; some add a dash.
        let fits =
            (shortest..=256).contains(&value.len()) && value.bytes().all(|byte| known(byte) || byte == b'-');
        if fits { Ok(value.to_owned()) } else { Err(OfferError::Wrong(name)) }
    }

    /// RFC 8122 §5.
    fn fingerprint(&self) -> Result<Vec<u8>, OfferError> {
        let missing = OfferError::Missing("a=fingerprint:sha-256");
        let hex = self.values("fingerprint").find_map(|value| {
            let (hash, hex) = value.split_once(' ')?;
            hash.eq_ignore_ascii_case("sha-256").then_some(hex)
        });
        let byte = |pair: &str| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten();
        let bytes: Option<Vec<u8>> = hex.ok_or(missing)?.trim().split(':').take(33).map(byte).collect();
        bytes.filter(|bytes| bytes.len() == 32).ok_or(OfferError::Wrong("fingerprint"))
    }

    /// RFC 5888 §4: a token.
    fn mid(&self) -> Result<String, OfferError> {
        let mid = self.value("mid").unwrap_or("0");
        let token = mid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
        if token && (1..=MID_MAX).contains(&mid.len()) {
            Ok(mid.to_owned())
        } else {
            Err(OfferError::Wrong("mid"))
        }
    }

    /// RFC 7587 §7.
    fn opus(&self) -> Result<u8, OfferError> {
        let opus = self.values("rtpmap").find_map(|value| {
            let (number, codec) = value.split_once(' ')?;
            let number = self.formats.contains(&number).then_some(number)?.parse().ok()?;
            codec.trim().eq_ignore_ascii_case("opus/48000/2").then_some(number)
        });
        // RFC 5761 §4: those from 64 to 95 would look like RTCP.
        opus.filter(|number| matches!(number, 0..64 | 96..=127)).ok_or(OfferError::Missing("Opus"))
    }

    /// RFC 5576 §4.1: the first one; there are more only where things are sent again.
    fn ssrc(&self) -> Result<u32, OfferError> {
        let value = self.value("ssrc").ok_or(OfferError::Missing("a=ssrc"))?;
        let number = value.split(' ').next().and_then(|number| number.parse().ok());
        // 0 means something else to the media engine.
        number.filter(|ssrc| *ssrc != 0).ok_or(OfferError::Wrong("ssrc"))
    }

    /// Whether the page speaks, and whether it listens (RFC 8866 §6.7).
    fn direction(&self) -> (bool, bool) {
        let said = self.all().find_map(|line| match line {
            "sendrecv" => Some((true, true)),
            "sendonly" => Some((true, false)),
            "recvonly" => Some((false, true)),
            "inactive" => Some((false, false)),
            _ => None,
        });
        said.unwrap_or((true, true))
    }
}

/// The formats of a stream of sound that is not refused (RFC 8866 §5.14).
fn formats(media: &str) -> Option<Vec<&str>> {
    let mut parts = media.split_whitespace();
    let (kind, port, protocol) = (parts.next()?, parts.next()?, parts.next()?);
    (kind == "audio" && port != "0" && protocol.ends_with("/TLS/RTP/SAVPF")).then(|| parts.collect())
}

/// This end, for the answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) ufrag: &'a str,
    pub(super) password: &'a str,
    /// SHA-256.
    pub(super) fingerprint: &'a [u8],
    pub(super) ssrc: u32,
    /// Any number; the description's own (RFC 8866 §5.2).
    pub(super) id: u32,
    /// Where this end listens, the preferred one first; at least one.
    pub(super) candidates: &'a [SocketAddr],
}

impl Answer<'_> {
    pub(super) fn to(&self, offer: &Offer) -> String {
        let Offer { mid, payload_type: opus, .. } = offer;
        let port = self.candidates.first().map_or(9, SocketAddr::port);
        let direction = match (offer.hears, offer.ssrc.is_some()) {
            (true, true) => "sendrecv",
            (true, false) => "sendonly",
            (false, true) => "recvonly",
            (false, false) => "inactive",
        };
        let mut lines = vec![
            "v=0".to_owned(),
            format!("o=- {} 1 IN IP4 127.0.0.1", self.id),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
            "a=ice-lite".to_owned(),
            format!("a=group:BUNDLE {mid}"),
            format!("m=audio {port} UDP/TLS/RTP/SAVPF {opus}"),
            "c=IN IP4 127.0.0.1".to_owned(),
            format!("a=mid:{mid}"),
            format!("a={direction}"),
            "a=rtcp-mux".to_owned(),
            format!("a=ice-ufrag:{}", self.ufrag),
            format!("a=ice-pwd:{}", self.password),
            format!("a=fingerprint:sha-256 {}", hex(self.fingerprint)),
            "a=setup:passive".to_owned(),
            format!("a=rtpmap:{opus} opus/48000/2"),
            // RFC 7587 §6.1: what this end wants to get. No DTX: the far end would take its gaps for losses.
            format!(
                "a=fmtp:{opus} minptime=20;useinbandfec=1;stereo=0;usedtx=0;maxaveragebitrate={BITS_PER_SECOND}"
            ),
            "a=ptime:20".to_owned(),
        ];
        if offer.hears {
            lines.push(format!("a=ssrc:{} cname:tandem", self.ssrc));
            lines.push("a=msid:tandem sound".to_owned());
        }
        // RFC 8445 §5.1.2.1: a host candidate, component 1.
        lines.extend((0u32..).zip(self.candidates).map(|(index, at)| {
            let priority = 2_130_706_431 - index * 256;
            format!("a=candidate:{} 1 udp {priority} {} {} typ host", index + 1, at.ip(), at.port())
        }));
        lines.push("a=end-of-candidates".to_owned());
        lines.push(String::new());
        lines.join("\r\n")
    }
}

fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As a browser writes it, shortened.
    pub(in crate::page) const CHROMIUM: &str = "v=0\r\no=- 4596489990601351948 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
        a=group:BUNDLE 0\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS s\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
        a=candidate:1 1 udp 2122260223 6ab6ef7e-1d7c.local 52183 typ host generation 0\r\n\
        a=ice-ufrag:aB3/\r\na=ice-pwd:asd88fgpdd777uzjYhagZg23\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38\r\n\
        a=setup:actpass\r\na=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=sendrecv\r\n\
        a=msid:s t\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n\
        a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=rtpmap:9 G722/8000\r\n\
        a=ssrc:3735928559 cname:x\r\na=ssrc:3735928559 msid:s t\r\n";

    #[test]
    fn an_offer_is_reduced_to_what_matters() {
        let offer = Offer::parse(CHROMIUM).unwrap();
        assert_eq!((offer.ufrag.as_str(), offer.mid.as_str()), ("aB3/", "0"));
        assert_eq!(offer.password, "asd88fgpdd777uzjYhagZg23");
        assert_eq!((offer.payload_type, offer.ssrc, offer.hears), (111, Some(0xdead_beef), true));
        assert_eq!((offer.fingerprint[0], offer.fingerprint[31]), (0xd2, 0x38));
        // Firefox says some of it once for the whole session, and numbers Opus otherwise.
        let firefox = CHROMIUM
            .replace("a=fingerprint", "a=ignored")
            .replace("a=group", "a=fingerprint:SHA-256 D2:B9:31:8F:DF:24:D8:0E:ED:D2:EF:25:9E:AF:6F:B8:34:AE:53:9C:E6:F3:8F:F2:64:15:FA:E8:7F:53:2D:38\r\na=group")
            .replace("111", "109");
        assert_eq!(Offer::parse(&firefox).unwrap(), Offer { payload_type: 109, ..offer });
    }

    #[test]
    fn who_only_listens_or_only_speaks_is_answered_so() {
        let address = "127.0.0.1:50000".parse().unwrap();
        let answer = |direction: &str| {
            let offer = Offer::parse(&CHROMIUM.replace("a=sendrecv", direction)).unwrap();
            let of = Answer {
                ufrag: "u",
                password: "p",
                fingerprint: &[0xab; 32],
                ssrc: 7,
                id: 1,
                candidates: &[address],
            };
            of.to(&offer)
        };
        let both = answer("a=sendrecv");
        for line in [
            "v=0\r\n",
            "\r\na=ice-lite\r\n",
            "\r\nm=audio 50000 UDP/TLS/RTP/SAVPF 111\r\n",
            "\r\na=sendrecv\r\n",
            "\r\na=setup:passive\r\n",
            "\r\na=ssrc:7 cname:tandem\r\n",
            "\r\na=candidate:1 1 udp 2130706431 127.0.0.1 50000 typ host\r\n",
        ] {
            assert!(both.contains(line), "{line:?} in {both}");
        }
        let listening = answer("a=recvonly");
        assert!(listening.contains("\r\na=sendonly\r\n"), "{listening}");
        assert!(answer("a=sendonly").contains("\r\na=recvonly\r\n"));
        assert!(!answer("a=sendonly").contains("a=ssrc"));
        let silent = CHROMIUM.replace("a=ssrc:", "a=no:").replace("a=sendrecv", "a=recvonly");
        assert_eq!(Offer::parse(&silent).unwrap().ssrc, None);
    }

    #[test]
    fn bad_offers_are_refused_each_with_its_reason() {
        let with = |from: &str, to: &str| {
            assert!(CHROMIUM.contains(from), "{from}");
            Offer::parse(&CHROMIUM.replace(from, to)).unwrap_err()
        };
        assert_eq!(Offer::parse(""), Err(OfferError::NoDescription));
        assert_eq!(Offer::parse("{\"type\":\"offer\"}"), Err(OfferError::NoDescription));
        assert_eq!(Offer::parse("v=0\r\n"), Err(OfferError::Streams(0)));
        let two = format!("{CHROMIUM}m=video 9 UDP/TLS/RTP/SAVPF 96\r\n");
        assert_eq!(Offer::parse(&two), Err(OfferError::Streams(2)));
        assert_eq!(with("m=audio", "m=video"), OfferError::Wrong("stream"));
        assert_eq!(with("m=audio 9", "m=audio 0"), OfferError::Wrong("stream"));
        assert_eq!(with("/TLS/", "/"), OfferError::Wrong("stream"));
        assert_eq!(with("a=rtpmap:111", "a=rtpmap:112"), OfferError::Missing("Opus"));
        assert_eq!(with("opus/48000/2", "opus/8000"), OfferError::Missing("Opus"));
        assert_eq!(with("a=rtcp-mux\r\n", ""), OfferError::Missing("a=rtcp-mux"));
        assert_eq!(with("a=setup:actpass", "a=setup:passive"), OfferError::Wrong("role in DTLS"));
        assert_eq!(with("a=sendrecv", "a=ice-lite"), OfferError::Wrong("role in ICE"));
        assert_eq!(with("aB3/", "aB3"), OfferError::Wrong("ice-ufrag"));
        assert_eq!(with("aB3/", "aB3/ x"), OfferError::Wrong("ice-ufrag"));
        assert_eq!(with("asd88fgpdd777uzjYhagZg23", "short"), OfferError::Wrong("ice-pwd"));
        assert_eq!(with("sha-256", "sha-1"), OfferError::Missing("a=fingerprint:sha-256"));
        assert_eq!(with("D2:B9", "D2:B"), OfferError::Wrong("fingerprint"));
        assert_eq!(with(":2D:38", ":2D"), OfferError::Wrong("fingerprint"));
        assert_eq!(with("a=mid:0", "a=mid:0123456789abcdefg"), OfferError::Wrong("mid"));
        assert_eq!(with("a=mid:0", "a=mid:a\u{e9}"), OfferError::Wrong("mid"));
        assert_eq!(with("3735928559", "0"), OfferError::Wrong("ssrc"));
        let long = format!("{CHROMIUM}{}", "a=x\r\n".repeat(14_000));
        assert_eq!(Offer::parse(&long), Err(OfferError::TooLong(long.len())));
    }
}
