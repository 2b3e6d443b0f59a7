//! What a piece of code sets aside at most: never more than a multiple of what came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that may be set aside for each byte that came: a number of one byte takes eight, while a list grows there are
/// two of it, and JSON is translated before it is read.
const EACH: usize = 32;
/// Bytes that may be set aside whatever came: a reply, a refusal's text.
const ALWAYS: usize = 16 << 10;

struct Meter;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn note(change: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

#[global_allocator]
static METER: Meter = Meter;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work` on a message of so many bytes.
///
/// # Panics
/// If more was set aside at once than may be.
pub fn bounded<T>(came: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    let most = (MOST.get() - before) as usize;
    assert!(most <= came * EACH + ALWAYS, "{most} bytes for {came}");
    result
}
