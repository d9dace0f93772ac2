//! Global state of a machine with one thread.

use core::cell::UnsafeCell;

/// A global that is only ever touched between entry and return of one system call or fault.
#[repr(transparent)]
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: the machine has one vCPU and the guest's code is not re-entered while it holds a borrow: a fault inside it
// never returns to the interrupted code (entry::on_fault abandons it), so no second borrow is ever used beside a first.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// A global with its initial value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value. Each module takes this once at the top of a call and does not keep it across another module's.
    #[allow(clippy::mut_from_ref)]
    pub fn get(&self) -> &mut T {
        // SAFETY: see the Sync implementation; callers follow the rule in this function's documentation.
        unsafe { &mut *self.0.get() }
    }

    /// Its address, for assembly.
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}
