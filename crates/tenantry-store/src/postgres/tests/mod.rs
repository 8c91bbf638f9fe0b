//! What needs a server is tested against one: see [`server::url`].
