//! A disk in memory whose power can be cut (grows in this file's own commit).
