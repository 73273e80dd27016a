//! Who is let in: tokens, tickets, browser sessions, peer credentials, host and origin rules.
