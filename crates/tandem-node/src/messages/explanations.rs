//! Sentences that explain a call or a network, each with a stable word.

use tandem_api::Finding;

use super::fill;

macro_rules! explanations {
    ($(#[$doc:meta])* $set:ident { $($name:ident = $word:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $set {
            $(#[doc = $text] $name,)*
        }

        impl $set {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The sentence, with places like `{relay}`.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// With its places filled.
            #[must_use]
            pub fn finding(self, values: &[(&str, &str)]) -> Finding {
                Finding { code: self.word().to_owned(), text: fill(self.text(), values) }
            }
        }
    };
}

explanations! {
    /// Why a call went the way it went.
    CallExplanation {
        // ---- how it stands, or ended
        Direct = "direct", "The sound goes straight between the two devices; no relay carries it{round_trip}.";
        DirectWas = "direct_was", "The sound went straight between the two devices; no relay carried it{round_trip}.";
        Relayed = "relayed", "The sound goes through {relays}{round_trip}. Relays cannot hear it: it is encrypted between the two devices.";
        RelayedWas = "relayed_was", "The sound went through {relays}{round_trip}. Relays cannot hear it: it is encrypted between the two devices.";
        LookingUp = "looking_up", "The directory is being asked where the other side can be reached.";
        Reaching = "reaching", "The other side's devices are known; a connection to them is being made.";
        RingingStill = "ringing", "It rings, and nobody has answered yet.";
        NoSoundYet = "no_sound_yet", "The call is answered, and no sound has come yet.";
        Ended = "ended", "{why}";

        // ---- why nobody was reached
        NotFound = "not_found", "The directory knows no device of this address that is reachable now. All of their devices are off, asleep or without a network; a mistyped address would have been refused.";
        Asleep = "asleep", "Their device is still listed at its homes, but it does not answer there: it has probably gone to sleep or lost its network within the last minute.";
        HomesGone = "homes_gone", "None of the supernodes that their device gave as its homes could be reached from here ({why}). Either those are down, or this network blocks them: run tandem doctor network.";
        ReachedNot = "not_reached", "Their device {device} could not be reached: {why}.";

        // ---- why it is not direct
        NotAContact = "not_a_contact", "It is relayed because the other side is not one of your contacts: people who do not know each other never see each other's internet address. If you know them, add them with tandem contacts add, and ask them to add you.";
        RelayOnly = "relay_only", "It is relayed because you asked for relays only (relay_only). Your internet address is shown to nobody on a call.";
        TheyRelayOnly = "they_relay_only", "It is relayed because the other side keeps to relays: it is set so there, or you are not one of their contacts. Neither side showed the other its internet address.";
        TheyShowNone = "they_show_no_address", "It is relayed because the other side had no address of its own to offer for a direct path.";
        WeHaveNone = "we_have_no_address", "It is relayed because this machine had no address to offer for a direct path.";
        NoCommonFamily = "no_common_family", "It is relayed because the two sides have no kind of address in common: this side has {ours}, the other {theirs}. Relays join the two.";
        UdpBlockedHere = "udp_blocked_here", "This network lets no UDP out: no relay answered over UDP, and they were reached over TCP. Direct calls need UDP. Sound over TCP suffers more from lost packets.";
        UdpBlockedThere = "udp_blocked_there", "It is relayed because the other side's network most likely lets no UDP out: no relay told it an address of its own, as relays do where UDP passes. Direct calls need UDP.";
        BothSymmetric = "both_symmetric", "It is relayed because both sides are behind NATs that use another port for each destination (symmetric NATs): neither can know which port to send to.";
        SymmetricHere = "symmetric_here", "The NAT on this side uses another port for each destination (a symmetric NAT), and the other side's does so too, or lets in only ports that it knows. Together they need a relay.";
        SymmetricThere = "symmetric_there", "The other side's NAT uses another port for each destination (a symmetric NAT), and the one here lets only known ports in. Together they need a relay.";
        Filtered = "filtered", "Both sides offered addresses, and no test packet came through between them: most likely the other side's NAT uses another port for each destination (a symmetric NAT), or a firewall on one side lets in nothing from unknown places.";
        DirectChecking = "direct_checking", "A direct path is still being tested.";
        DirectLost = "direct_lost", "There was a direct path ({seconds} s into the call it was heard last), and it went silent: the NAT forgot it, or a network changed.";

        // ---- relays
        RelayRefused = "relay_refused", "The relay {relay} did not take the call: {why}.";
        RelayLost = "relay_lost", "The relay {relay} was lost: {why}.";
        RelayNoAnswer = "relay_no_answer", "The relay {relay} never answered.";
        NoRelay = "no_relay", "No relay took the call, so there was nothing to carry the sound.";
        RelayTcp = "relay_over_tcp", "The relay {relay} was reached over TCP, not UDP: something between here and there blocks UDP, or slows it down.";
        OneSided = "one_sided", "This side's relays worked, but nothing of the other side ever came through them: the other side did not reach the same relays.";

        // ---- what happened
        Switched = "switched", "{at} into the call the sound moved from {from} to {to}: {why}. {cost}";
        Steady = "steady", "The sound kept to one path from the beginning to the end.";
        SteadySoFar = "steady_so_far", "The sound has kept to one path so far.";

        // ---- where the time went
        SetUp = "set_up", "Setting up: {steps}.";
        SlowLookUp = "slow_look_up", "The directory took {ms} ms to answer: the homes of this device are slow or far. It tries nearer ones by itself.";
        SlowReach = "slow_reach", "Reaching the other device took {ms} ms: its first home did not answer, or the way there is long.";
        SlowSound = "slow_sound", "From answering to the first sound it took {ms} ms: no path was ready when the call was answered.";
    }
}

explanations! {
    /// What a kind of network means, what can be done, and what was only concluded.
    NetworkExplanation {
        // ---- the kind, in words
        KindUnknown = "unknown", "Too little answered to tell what kind of network this is.";
        KindOffline = "offline", "Nothing gets out of this network: no supernode answered, over UDP or TCP.";
        KindPublic = "public", "Supernodes see this machine under an address of its own: there is no NAT in between.";
        KindFriendly = "friendly_nat", "A home or office router shares one internet address among its machines (NAT), in the way that direct calls can work with: endpoint-independent mapping.";
        KindSymmetric = "symmetric_nat", "A router shares one internet address among its machines (NAT), and picks another port for each destination: address-dependent mapping, called a symmetric NAT. Direct calls often fail with it.";
        KindUdpBlocked = "udp_blocked", "A firewall lets TCP out, but no UDP.";
        KindOnlyHttps = "only_https", "A strict firewall lets nothing out but TCP to port 443, as for web pages.";

        // ---- what follows
        CallsNone = "calls_none", "No calls are possible from here now.";
        CallsDirect = "calls_direct", "Calls to contacts will be direct with nearly everybody.";
        CallsDirectMost = "calls_direct_most", "Calls to contacts will be direct with most people: all but those behind a symmetric NAT with strict filtering, or a firewall that blocks UDP.";
        CallsDirectFew = "calls_direct_few", "Calls to contacts will be direct with people who have a public address, IPv6 in common with you, or a NAT that lets anybody in; relayed with the others.";
        CallsRelayed = "calls_relayed", "Calls will be relayed, all of them: direct paths need UDP. They work, over TCP, with somewhat more delay when packets are lost.";
        CallsStrangers = "calls_strangers", "Calls with people who are not contacts are always relayed, in every network: neither side sees the other's internet address.";
        CallsIpv6 = "calls_ipv6", "IPv6 works: calls to contacts who have it too are direct, whatever the NATs do.";

        // ---- what to do
        DoNothing = "nothing_to_do", "Nothing needs to be done.";
        DoCheckCable = "check_connection", "Check the connection itself first (cable, Wi-Fi, the provider's sign-in page), then run this again.";
        DoAllowUdp = "allow_udp", "If you or somebody you know runs the firewall: allow outgoing UDP. Calls then have less delay, and can be direct.";
        DoMapPort = "map_port", "Switch on UPnP, NAT-PMP or PCP in the router: Tandem then asks it for a port, and direct calls work in spite of the NAT.";
        DoIpv6 = "ask_for_ipv6", "Ask your provider for IPv6: with it there is no NAT to get through.";
        DoCarrier = "carrier_nat", "The internet provider itself puts many customers behind one address (carrier-grade NAT). A port opened in your own router does not help; IPv6, or a public address from the provider, does.";
        DoClock = "set_clock", "Set this machine's clock: it is off by {seconds} seconds, and records and certificates may be refused.";
        DoKnowSupernodes = "know_supernodes", "No supernode is known to test with. Give one with --bootstrap (tandem up --bootstrap …), or start the node once where it can reach the network.";

        // ---- concluded, not tested
        InferFiltering = "filtering_not_tested", "Which packets the NAT lets in (its filtering) was not tested: that needs a server with two addresses (RFC 5780). Most routers filter by address and port.";
        InferOneFamily = "mapping_over_ipv4_only", "How the NAT maps was tested over IPv4; over IPv6 there is seldom one.";
        InferOneServer = "mapping_not_tested", "Only one supernode answered over UDP, so whether the NAT uses the same port for everybody could not be tested; the port it used is shown.";
        InferPort443 = "port_443_not_tested", "No supernode that is known offers port 443, so whether only that gets out could not be tested.";
        InferNoIpv6Server = "ipv6_not_tested", "No supernode that is known has an IPv6 address, so IPv6 could not be tested from end to end.";
        InferSameNetwork = "same_addresses", "The supernodes that answered share one internet address, so a NAT that maps by address only would look friendly here.";
        InferPublicByRange = "loopback", "The supernodes are on this machine itself or in its own network: what is between here and the internet was not tested.";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_unique_and_sentences_end() {
        let calls = CallExplanation::ALL.iter().map(|it| (it.word(), it.text()));
        let networks = NetworkExplanation::ALL.iter().map(|it| (it.word(), it.text()));
        for set in [calls.collect::<Vec<_>>(), networks.collect()] {
            let mut seen = BTreeSet::new();
            for (word, text) in set {
                assert!(seen.insert(word), "{word} is used twice");
                assert!(
                    word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit()),
                    "{word}"
                );
                assert!(text.ends_with('.') || text.ends_with('}'), "{word}: {text}");
            }
        }
    }
}
