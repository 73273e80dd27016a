//! HTTP and WebSocket: routes, wire types, errors.
