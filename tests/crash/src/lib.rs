//! Nothing but tests: the whole server is killed, starved of disk space and hurried, and afterwards
//! every acknowledged write is accounted for.
