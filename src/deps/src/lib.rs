//! External crates with the union of features that the workspace uses, so that `-p` never rebuilds the world.
