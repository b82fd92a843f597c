//! The relay as others meet it: over real sockets on loopback, and through a client that is not ours.

mod coturn_client;
