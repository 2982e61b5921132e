//! Runs on servers, through the program: what the user types, and what comes of it. Whatever docs/remote.md
//! says of clients and servers is tried here.

mod common;

mod remote {
    mod leaving;
    mod same;
    mod several;
    mod state;
    mod triggers;
}
