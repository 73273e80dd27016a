//! A typed client of the API over the control socket or HTTP.
