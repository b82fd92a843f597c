//! The wire messages, generated from `spec/proto` by `cargo xtask proto`.

use std::fmt;

// As the generator writes it, so that `cargo xtask proto --check` can compare.
#[rustfmt::skip]
mod generated;

pub use generated::*;

// These three carry secrets, and a frame that is logged must not tell them.

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("not_after_s", &self.not_after_s).finish_non_exhaustive()
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("call_id", &self.call_id)
            .field("media", &self.media)
            .field("relay_only", &self.relay_only)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MediaDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaDescription").field("ssrc", &self.ssrc).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let media = MediaDescription { ice_pwd: "hidden".into(), ..MediaDescription::default() };
        let offer = Offer { leg_secret: vec![77; 32], media: Some(media), ..Offer::default() };
        let grant = Grant { password: "hidden".into(), username: "hidden".into(), ..Grant::default() };
        let home = HomeFrame { id: 1, body: Some(home_frame::Body::Grant(grant)) };
        let signal = SignalFrame { body: Some(signal_frame::Body::Offer(offer)) };
        let printed = format!("{home:?} {signal:?}");
        assert!(!printed.contains("hidden") && !printed.contains("77"), "{printed}");
    }
}
