//! The `files` service: the files of records (CONTRACT §6). So far what makes a thumb of an image, [`thumb`].

pub mod thumb;
