//! The network side of one call: str0m, TURN clients, the path set and its mirroring.
