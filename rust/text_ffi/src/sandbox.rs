//! A computation with a heap and a stack of its own, both of a fixed size.
//!
//! Templates are programs that others have written, and whatever they compute, they can make it
//! large: strings and lists that double, repeat, nest or refer to themselves. An allocation that
//! fails ends the process in Rust, so nothing is left to an allocation's failure. Instead the
//! computation runs on a thread of its own, on a stack of its own, and all that it allocates comes
//! from one region. When the region is used up the thread switches back to its first stack and
//! never returns to the computation. In the end region and stack are unmapped, so nothing that was
//! allocated within stays, not even what refers to itself. What is allocated and freed again counts
//! too, against a larger bound: it is the measure of the work.
//!
//! So the computation must not leave in a global place what it has allocated (a lazily filled
//! cache must have been filled before), nor take a lock that others wait for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::Once;

use libc::{c_void, ucontext_t};

use crate::bytes::catch_panics;

/// Sizes of free lists: 32 bytes, 64, 128, … up to half of the address space.
const CLASSES: usize = 48;
const SMALLEST: usize = 32;
const PAGE: usize = 4096;

/// So many times the heap may be allocated in all.
const TURNOVER: usize = 16;

pub enum Failure {
    /// More was allocated than the heap holds, at a time or in all.
    HeapUsedUp,
    /// The machine gave no memory or no thread.
    NoRoom(std::io::Error),
}

/// What is allocated on this thread while `inside`; free lists by power of two.
struct Heap {
    inside: Cell<bool>,
    used_up: Cell<bool>,
    start: usize,
    next: Cell<usize>,
    end: usize,
    left: Cell<usize>,  // bytes, of the turnover
    free: UnsafeCell<[*mut u8; CLASSES]>,
    base: UnsafeCell<ucontext_t>,
    fiber: UnsafeCell<ucontext_t>,
}

thread_local! {
    // Neither lazy nor dropped: the allocator may look at any time in the thread's life.
    static HEAP: Cell<*const Heap> = const { Cell::new(ptr::null()) };
}

fn class_of(layout: Layout) -> usize {
    let size = layout.size().max(layout.align()).max(SMALLEST);
    (size.next_power_of_two() / SMALLEST).trailing_zeros() as usize
}

impl Heap {
    fn contains(&self, block: *mut u8) -> bool {
        (self.start..self.end).contains(&(block as usize))
    }

    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > self.end - self.start {
            self.give_up();
        }
        let class = class_of(layout);
        match self.left.get().checked_sub(SMALLEST << class) {
            Some(left) => self.left.set(left),
            None => self.give_up(),
        }
        let list = &mut (*self.free.get())[class];
        if !list.is_null() && *list as usize % layout.align() == 0 {
            let block = *list;
            *list = *(block as *mut *mut u8);
            return block;
        }
        let begin = self.next.get().next_multiple_of(layout.align());
        if self.end.saturating_sub(begin) < SMALLEST << class {
            self.give_up();
        }
        self.next.set(begin + (SMALLEST << class));
        begin as *mut u8
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let list = &mut (*self.free.get())[class_of(layout)];
        *(block as *mut *mut u8) = *list;
        *list = block;
    }

    /// Never returns: the thread goes on where it entered the computation.
    unsafe fn give_up(&self) -> ! {
        self.used_up.set(true);
        self.inside.set(false);
        libc::setcontext(self.base.get());
        std::process::abort()
    }
}

/// The whole library's allocator: the system's but for what runs in a sandbox.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: blocks of a sandbox lie in its region, all others are the system allocator's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match HEAP.get().as_ref() {
            Some(heap) if heap.inside.get() => heap.alloc(layout),
            _ => System.alloc(layout),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match HEAP.get().as_ref() {
            Some(heap) if heap.inside.get() => {
                let block = heap.alloc(layout);
                ptr::write_bytes(block, 0, layout.size());
                block
            }
            _ => System.alloc_zeroed(layout),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match HEAP.get().as_ref() {
            Some(heap) if heap.contains(block) => heap.dealloc(block, layout),
            _ => System.dealloc(block, layout),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = Layout::from_size_align_unchecked(size, layout.align());
        match HEAP.get().as_ref() {
            Some(heap) if heap.inside.get() || heap.contains(block) => {
                if heap.contains(block) && class_of(layout) == class_of(wanted) {
                    return block;
                }
                let moved = self.alloc(wanted);
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
                moved
            }
            _ => System.realloc(block, layout, size),
        }
    }
}

/// Address space: pages that nobody has touched cost nothing.
struct Mapping {
    start: *mut c_void,
    size: usize,
}

impl Mapping {
    fn new(size: usize) -> std::io::Result<Self> {
        let size = size.next_multiple_of(PAGE);
        // SAFETY: a new anonymous mapping disturbs nothing.
        unsafe {
            let start = libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error());
            }
            // A small computation would pay for zeroing huge pages.
            libc::madvise(start, size, libc::MADV_NOHUGEPAGE);
            Ok(Mapping { start, size })
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing refers to it any more.
        unsafe { libc::munmap(self.start, self.size) };
    }
}

/// What the fiber is given and gives back.
struct Job<'a> {
    work: Option<&'a mut (dyn FnMut() -> Result<Vec<u8>, String> + Send)>,
    result: Option<Result<Vec<u8>, String>>,
    heap: *const Heap,
}

/// The first function on the fiber's stack; its argument comes in two halves.
extern "C" fn enter(high: u32, low: u32) {
    let job = ((high as u64) << 32 | low as u64) as *mut Job;
    // SAFETY: `run_on_thread` waits for us with the job in its frame.
    unsafe {
        let work = (*job).work.take().expect("a job is run once");
        (*(*job).heap).inside.set(true);
        let result = catch_panics(work);
        (*(*job).heap).inside.set(false);
        // Copied out of the region; the original goes with it.
        (*job).result = Some(match &result {
            Ok(bytes) => Ok(bytes.clone()),
            Err(text) => Err(text.clone()),
        });
        std::mem::forget(result);
    }
}

unsafe fn run_on_thread(heap: &Heap, stack: &Mapping, job: &mut Job) {
    HEAP.set(heap);
    let fiber = heap.fiber.get();
    libc::getcontext(fiber);
    (*fiber).uc_stack.ss_sp = stack.start;
    (*fiber).uc_stack.ss_size = stack.size;
    (*fiber).uc_link = heap.base.get();
    let argument = job as *mut Job as u64;
    libc::makecontext(
        fiber,
        std::mem::transmute::<extern "C" fn(u32, u32), extern "C" fn()>(enter),
        2,
        (argument >> 32) as u32,
        argument as u32,
    );
    libc::swapcontext(heap.base.get(), fiber);
}

/// Reports of panics take global locks and grow global buffers: not from a sandbox's memory.
fn report_panics_outside() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // SAFETY: a thread's heap outlives the thread.
            let heap = unsafe { HEAP.get().as_ref() };
            let was_inside = heap.map(|heap| heap.inside.replace(false));
            report(info);
            if let (Some(heap), Some(inside)) = (heap, was_inside) {
                heap.inside.set(inside);
            }
        }));
    });
}

/// Runs `work` with `heap_bytes` of memory and `stack_bytes` of stack.
pub fn run(
    heap_bytes: usize,
    stack_bytes: usize,
    work: &mut (dyn FnMut() -> Result<Vec<u8>, String> + Send),
) -> Result<Result<Vec<u8>, String>, Failure> {
    report_panics_outside();
    let region = Mapping::new(heap_bytes).map_err(Failure::NoRoom)?;
    let stack = Mapping::new(stack_bytes).map_err(Failure::NoRoom)?;
    // SAFETY: the lowest page is never a stack's; a stack that overflows must not write elsewhere.
    // The contexts are plain data that getcontext and swapcontext fill.
    let heap = unsafe {
        libc::mprotect(stack.start, PAGE, libc::PROT_NONE);
        Heap {
            inside: Cell::new(false),
            used_up: Cell::new(false),
            start: region.start as usize,
            next: Cell::new(region.start as usize),
            end: region.start as usize + region.size,
            left: Cell::new(region.size.saturating_mul(TURNOVER)),
            free: UnsafeCell::new([ptr::null_mut(); CLASSES]),
            base: UnsafeCell::new(std::mem::zeroed()),
            fiber: UnsafeCell::new(std::mem::zeroed()),
        }
    };
    struct Lent<T>(T);
    // SAFETY: lent to the one thread that is joined below.
    unsafe impl<T> Send for Lent<T> {}
    let lent = Lent((&heap as *const Heap, &stack as *const Mapping));
    let work = Lent(work);
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || {
            let (lent, work) = ({ lent }, { work });
            let (heap, stack) = lent.0;
            let mut job = Job { work: Some(work.0), result: None, heap };
            // SAFETY: both outlive the thread, whose own last words (destructors of its thread
            // locals) may still free blocks of the region.
            unsafe { run_on_thread(&*heap, &*stack, &mut job) };
            job.result
        })?;
        // Joined by hand: the scope alone does not wait for those destructors.
        Ok(thread.join().unwrap_or(None))
    })
    .map_err(Failure::NoRoom)?;
    if heap.used_up.get() {
        return Err(Failure::HeapUsedUp);
    }
    Ok(outcome.unwrap_or_else(|| Err("internal error: the computation has no result".into())))
}
