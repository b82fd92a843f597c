//! The relay as others meet it: the core with forced time, the driver over real sockets on loopback, and through a
//! client that is not ours.

#[cfg(test)]
mod attack;
#[cfg(test)]
mod bench;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod capture;
#[cfg(test)]
mod chaos;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod chromium;
#[cfg(test)]
mod conversation;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod coturn_client;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lifetimes;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rfc5769;
#[cfg(test)]
mod route;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod turn_client;
#[cfg(test)]
mod wire;
