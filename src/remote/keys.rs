//! Certificates and their keys: made, found, loaded.
