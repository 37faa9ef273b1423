//! The rules of the house, checked before the product is built.
