//! The requests to an engine and its answers, on a stub of Docker's interface.

mod calls;
mod connect;
mod exec_words;
mod ports;
mod protocol;
#[path = "../support/proxy.rs"]
mod proxy;
mod refusals;
mod runtime;
mod secrets;
#[path = "../support/stub.rs"]
mod stub;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/teller.rs"]
mod teller;
