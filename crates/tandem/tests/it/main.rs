//! The real binary, as a script uses it: the forms that scripts rely on, over real sockets on 127.N.0.1.

mod forms;
mod world;
