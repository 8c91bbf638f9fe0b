//! What needs a server is tested against one: see [`world`].

mod calls;
mod cut;
mod isolation;
mod mute;
mod pool;
pub(super) mod proxy;
mod tls;
mod wire;
mod world;
