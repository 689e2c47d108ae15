//! Real connections over a wire between two namespaces, seen from either end, through every kind of ingress program,
//! for both families. What the observer says is compared with the kernel's own word.

mod attempts;
mod closing;
mod counting;
mod opening;
