//! Buffers that cross the C border, and the guard around every exported function.

use std::cell::Cell;
use std::panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe};
use std::sync::Once;

/// Bytes owned by Rust until `tiercel_bytes_free`.
#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
}

impl Bytes {
    pub fn new(content: Vec<u8>) -> Self {
        let content = content.into_boxed_slice();
        let size = content.len();
        Bytes { data: Box::into_raw(content) as *mut u8, size }
    }
}

/// # Safety
/// `bytes` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_bytes_free(bytes: Bytes) {
    shielded((), || {
        if !bytes.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(bytes.data, bytes.size)));
        }
    })
}

/// Token ids owned by Rust until `tiercel_ids_free`.
#[repr(C)]
pub struct Ids {
    data: *mut i32,
    size: usize,
}

impl Ids {
    pub fn new(ids: Vec<i32>) -> Self {
        let ids = ids.into_boxed_slice();
        let size = ids.len();
        Ids { data: Box::into_raw(ids) as *mut i32, size }
    }
}

/// # Safety
/// `ids` came from this library and is freed once.
#[no_mangle]
pub unsafe extern "C" fn tiercel_ids_free(ids: Ids) {
    shielded((), || {
        if !ids.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids.data, ids.size)));
        }
    })
}

/// A borrowed C string with a length; null counts as empty.
///
/// # Safety
/// `data` points to `size` readable bytes, or is null.
pub unsafe fn slice<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

thread_local! {
    /// How many guarded calls this thread is in.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}

/// A panic that becomes an error is told by that error: without this, it would also be printed, with as
/// many lines as its backtrace has.
fn quiet_guarded_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |info| {
            // A thread that is ending has no count any more.
            if GUARDED.try_with(Cell::get).unwrap_or(0) == 0 {
                others(info);
            }
        }));
    });
}

/// The result of `work`, or what it said when it panicked.
pub fn or_panic_text<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    quiet_guarded_panics();
    GUARDED.with(|depth| depth.set(depth.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.with(|depth| depth.set(depth.get() - 1));
    result.map_err(|panic| {
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "unknown".to_string())
    })
}

/// A panic of `work` becomes an error.
pub fn catch_panics<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    or_panic_text(work)
        .unwrap_or_else(|text| Err(format!("internal error of the text library: {text}")))
}

/// For functions that cannot fail: after a panic the answer is `otherwise`.
pub fn shielded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    or_panic_text(work).unwrap_or(otherwise)
}

/// Runs `work`; an error or a panic goes to `*error`, and the result is None.
///
/// # Safety
/// `error` is writable.
pub unsafe fn guard<T>(error: *mut Bytes, work: impl FnOnce() -> Result<T, String>) -> Option<T> {
    match catch_panics(work) {
        Ok(value) => Some(value),
        Err(text) => {
            *error = Bytes::new(text.into_bytes());
            None
        }
    }
}
