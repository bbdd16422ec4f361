//! Drives the heart of the pool by random sequences, beside a model that is too simple to be wrong.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::error::EngineErrorKind;

/// Stands for a container.
#[derive(Clone, Debug)]
struct Item {
    id: usize,
    flags: Arc<Flags>,
}

impl Lend for Item {
    fn is_usable(&self) -> bool {
        !self.flags.is_spoilt()
    }

    fn is_outdated(&self) -> bool {
        let outdated = self.flags.is_outdated();
        self.flags.after_a_look();
        outdated
    }
}

/// The flags of an item, wherever the item is.
#[derive(Debug, Default)]
struct Flags {
    outdated: AtomicBool,
    spoilt: AtomicBool,
    pause: Mutex<Option<Pause>>,
}

/// Makes something happen just after the judge has looked at an item.
#[derive(Debug)]
struct Pause {
    looked: mpsc::Sender<()>,
    happened: mpsc::Receiver<()>,
}

impl Flags {
    fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    fn is_spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Relaxed)
    }

    /// Lets the flags change between the look at them and what follows from it.
    fn after_a_look(&self) {
        if let Some(Pause { looked, happened }) = self.pause.lock().take() {
            looked.send(()).unwrap();
            // The other thread waits where this one holds the lock. The time is up then, and the change comes afterwards.
            let _ = happened.recv_timeout(Duration::from_millis(50));
        }
    }

    fn is_good(&self) -> bool {
        !self.is_outdated() && !self.is_spoilt()
    }
}

impl Ticket<Item> {
    fn turn(&mut self) -> Option<Result<Item, Unserved>> {
        poll_fn(|cx| self.poll_turn(cx)).now_or_never()
    }
}

/// One step. The number chooses among the items, waiters or slots there are.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Acquires, and waits until a deadline where no item is idle.
    Acquire(usize),
    TryAcquire,
    /// Lets the deadlines up to this one pass.
    Late(usize),
    /// Polls a waiter.
    Take(usize),
    /// Drops a waiter, served or not.
    Cancel(usize),
    Return(usize),
    /// Gives an item back that is to be cleaned.
    Clean(usize),
    /// Notes that the cleaning of an item takes long.
    CleanLate(usize),
    /// Ends the cleaning of an item, with success or without.
    Cleaned(usize, bool),
    Discard(usize),
    /// Ends a lease whose item is kept.
    Keep(usize),
    /// Begins the next lease of an item that is kept.
    Resume(usize),
    /// Ends the time of an item that is kept.
    EndKeep(usize),
    /// Takes a container out of the pool for good.
    TakeOut(usize),
    Reserve,
    Created(usize),
    /// Fails a creation: its slot is freed at once, or after a removal.
    NotCreated(usize),
    /// Fails a creation so that no retry helps. The flag says whether items on loan may be lent again.
    Hopeless(usize, bool),
    Die(usize),
    /// Makes an item unusable, wherever it is, without a look at it.
    Spoil(usize),
    Removed,
    Outdate(usize),
    MakeRoom,
    EvictAboveMin(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..8usize;
    prop_oneof![
        6 => n.clone().prop_map(Step::Acquire),
        2 => Just(Step::TryAcquire),
        4 => n.clone().prop_map(Step::Take),
        3 => n.clone().prop_map(Step::Cancel),
        6 => n.clone().prop_map(Step::Return),
        4 => n.clone().prop_map(Step::Clean),
        5 => (n.clone(), any::<bool>()).prop_map(|(n, is_clean)| Step::Cleaned(n, is_clean)),
        2 => n.clone().prop_map(Step::CleanLate),
        2 => n.clone().prop_map(Step::Late),
        2 => n.clone().prop_map(Step::Discard),
        3 => n.clone().prop_map(Step::Keep),
        2 => n.clone().prop_map(Step::Resume),
        2 => n.clone().prop_map(Step::EndKeep),
        1 => n.clone().prop_map(Step::TakeOut),
        6 => Just(Step::Reserve),
        5 => n.clone().prop_map(Step::Created),
        2 => n.clone().prop_map(Step::NotCreated),
        2 => (n.clone(), any::<bool>()).prop_map(|(n, may_return)| Step::Hopeless(n, may_return)),
        2 => n.clone().prop_map(Step::Die),
        4 => n.clone().prop_map(Step::Spoil),
        5 => Just(Step::Removed),
        1 => n.clone().prop_map(Step::Outdate),
        2 => Just(Step::MakeRoom),
        1 => n.prop_map(Step::EvictAboveMin),
        1 => prop_oneof![19 => Just(Step::Removed), 1 => Just(Step::Close)],
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..4usize, 0..4usize, 1..6usize, 1..4usize).prop_map(|(min_idle, more, max_total, max_creating)| {
        let min_idle = min_idle.min(max_total);
        Limits {
            min_idle,
            max_idle: min_idle + more,
            max_total,
            max_creating,
        }
    })
}

/// A waiter, and its number in the model.
struct Waiting {
    ticket: Ticket<Item>,
    number: usize,
    deadline: Option<Instant>,
}

/// The real pool, the items and slots taken from it, and the model beside it.
struct World {
    limits: Limits,
    real: Arc<Idle<Item>>,
    to_remove: UnboundedReceiver<Retired<Item>>,
    waiting: Vec<Waiting>,
    held: Vec<(Item, Slot<Item>)>,
    kept: Vec<(Item, Slot<Item>)>,
    creating: Vec<Slot<Item>>,
    cleaning: Vec<(Item, Slot<Item>)>,
    /// The flags of every item there ever was, by number.
    flags: Vec<Arc<Flags>>,
    next_ticket: usize,
    /// The background task was notified, and has not looked since.
    rung: bool,

    // The model.
    idle: Vec<usize>,
    outdated: usize,
    queue: VecDeque<usize>,
    /// Waiters that were handed an item and were not polled since: ticket and item.
    served: Vec<(usize, usize)>,
    recycling: usize,
    closed: bool,
    /// Waiters that failed because no item can be created for them, and were not polled since.
    failed: Vec<usize>,
    /// Waiters whose time was up, and that were not polled since.
    late: Vec<usize>,
    /// The moment from which the deadlines count.
    begun: Instant,
}

impl World {
    fn new(limits: Limits) -> Self {
        let (real, to_remove) = Idle::new(limits);
        Self {
            limits,
            real,
            to_remove,
            waiting: Vec::new(),
            held: Vec::new(),
            kept: Vec::new(),
            creating: Vec::new(),
            cleaning: Vec::new(),
            flags: Vec::new(),
            next_ticket: 0,
            rung: true,
            idle: Vec::new(),
            outdated: 0,
            queue: VecDeque::new(),
            served: Vec::new(),
            recycling: 0,
            closed: false,
            failed: Vec::new(),
            late: Vec::new(),
            begun: Instant::now(),
        }
    }

    fn in_use(&self) -> usize {
        self.held.len() + self.served.len()
    }

    fn total(&self) -> usize {
        self.idle.len() + self.in_use() + self.kept.len() + self.creating.len() + self.recycling
    }

    fn wanted(&self) -> usize {
        let good = self.idle.len() - self.outdated;
        let wanted = self.queue.len() + self.limits.min_idle.saturating_sub(good);
        let late = |(_, slot): &&(Item, Slot<Item>)| slot.phase == Phase::CleaningLate;
        let late = self.cleaning.iter().filter(late).count();
        wanted.saturating_sub(self.creating.len() + self.cleaning.len() - late)
    }

    fn may_create(&self) -> bool {
        !self.closed
            && self.wanted() > 0
            && self.total() < self.limits.max_total
            && self.creating.len() < self.limits.max_creating
    }

    fn is_starved(&self) -> bool {
        let is_full = self.total() >= self.limits.max_total;
        is_full && !self.closed && !self.kept.is_empty() && self.queue.len() > self.creating.len() + self.recycling
    }

    /// Returns an item, or adds a new one.
    fn model_put(&mut self, id: usize) {
        if !self.flags[id].is_good() {
            self.recycling += 1;
        } else if let Some(ticket) = self.queue.pop_front() {
            self.served.push((ticket, id));
        } else if !self.closed && (self.idle.len() < self.limits.max_idle || self.outdated > 0) {
            self.idle.push(id);
            self.model_drop_surplus();
        } else {
            self.recycling += 1;
        }
    }

    fn model_drop_surplus(&mut self) {
        if self.outdated > 0 && self.idle.len() > self.limits.min_idle {
            self.model_drop_oldest();
        }
    }

    fn model_drop_oldest(&mut self) {
        self.idle.remove(0);
        self.outdated -= 1;
        self.recycling += 1;
    }

    /// Takes the usable item that became idle last, and removes unusable ones on the way to it.
    fn model_pop(&mut self) -> Option<usize> {
        while let Some(id) = self.idle.pop() {
            self.outdated = self.outdated.min(self.idle.len());
            if !self.flags[id].is_spoilt() {
                return Some(id);
            }
            self.recycling += 1;
        }
        None
    }

    fn lend(&mut self, item: Item) {
        assert_eq!(Some(item.id), self.model_pop(), "the one that became idle last");
        self.hold(item);
    }

    fn hold(&mut self, item: Item) {
        self.held.push((item, Slot::lent(self.real.clone())));
    }

    /// Returns one of the deadlines. One of them is no deadline.
    fn deadline(&self, n: usize) -> Option<Instant> {
        (n > 0).then(|| self.begun + Duration::from_secs(n as u64))
    }

    fn answered(&mut self, answer: Acquired<Item>) {
        match answer {
            Acquired::Now(item) => self.lend(item),
            Acquired::None => assert!(self.model_pop().is_none() && !self.closed),
            Acquired::Closed => assert!(self.closed && self.idle.is_empty()),
        }
    }

    /// Lets the time pass up to a deadline.
    fn end_late_waits(&mut self, n: usize) {
        let now = self.begun + Duration::from_secs(n as u64);
        let is_late = |waiting: &&Waiting| waiting.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<_> = self
            .waiting
            .iter()
            .filter(is_late)
            .map(|waiting| waiting.number)
            .collect();
        for number in late {
            if let Some(at) = self.queue.iter().position(|queued| *queued == number) {
                self.queue.remove(at);
                self.late.push(number);
            }
        }
        // No deadline of a waiter in the queue is before the alarm.
        let alarm = self.real.state.lock().waiters.alarm();
        for waiting in self
            .waiting
            .iter()
            .filter(|waiting| self.queue.contains(&waiting.number))
        {
            assert!(
                waiting
                    .deadline
                    .is_none_or(|deadline| alarm.is_some_and(|alarm| alarm <= deadline))
            );
        }
        self.real.end_late_waits(now);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Acquire(n) => match self.real.queue(self.deadline(n)) {
                Ok(ticket) => {
                    assert_eq!(self.model_pop(), None);
                    assert!(!self.closed);
                    let number = self.next_ticket;
                    self.next_ticket += 1;
                    self.queue.push_back(number);
                    let deadline = self.deadline(n);
                    self.waiting.push(Waiting {
                        ticket,
                        number,
                        deadline,
                    });
                }
                Err(answer) => self.answered(answer),
            },
            Step::TryAcquire => {
                let answer = self.real.try_acquire();
                self.answered(answer);
            }
            Step::Late(n) => self.end_late_waits(n),
            Step::Take(n) => self.take(n),
            Step::Cancel(n) => {
                let Some(Waiting { ticket, number, .. }) = pick(&mut self.waiting, n) else {
                    return;
                };
                self.queue.retain(|waiting| *waiting != number);
                let served = self.served.iter().position(|(ticket, _)| *ticket == number);
                let item = served.map(|i| self.served.remove(i).1);
                drop(ticket);
                if let Some(id) = item {
                    self.model_put(id);
                }
            }
            Step::Return(n) => {
                if let Some((item, slot)) = pick(&mut self.held, n) {
                    self.model_put(item.id);
                    let usable = !item.flags.is_spoilt();
                    assert_eq!(slot.put(item), usable);
                }
            }
            Step::Clean(n) => {
                if let Some((item, slot)) = pick(&mut self.held, n) {
                    slot.clean(item);
                    // Items that are to be removed may come before it.
                    let mut to_remove = Vec::new();
                    loop {
                        let (item, slot) = self.to_remove.try_recv().unwrap();
                        if slot.is_to_clean() {
                            self.cleaning.push((item, slot));
                            break;
                        }
                        to_remove.push((item, slot));
                    }
                    for (item, slot) in to_remove {
                        self.real.give_away(item, slot);
                    }
                    self.recycling += 1;
                }
            }
            Step::CleanLate(n) => {
                let at = n % self.cleaning.len().max(1);
                if let Some((_, slot)) = self.cleaning.get_mut(at) {
                    slot.clean_late();
                }
            }
            Step::Cleaned(n, is_clean) => {
                if let Some((item, slot)) = pick(&mut self.cleaning, n) {
                    if is_clean {
                        self.recycling -= 1;
                        self.model_put(item.id);
                        let usable = !item.flags.is_spoilt();
                        assert_eq!(slot.put(item), usable);
                    } else {
                        slot.retire_unclean(item);
                    }
                }
            }
            Step::Discard(n) => {
                if let Some((item, slot)) = pick(&mut self.held, n) {
                    self.recycling += 1;
                    slot.retire(item);
                }
            }
            Step::Keep(n) => {
                if let Some((item, mut slot)) = pick(&mut self.held, n) {
                    slot.keep();
                    self.kept.push((item, slot));
                }
            }
            Step::Resume(n) => {
                if let Some((item, slot)) = pick(&mut self.kept, n) {
                    slot.resume();
                    self.hold(item);
                }
            }
            Step::EndKeep(n) => {
                if let Some((item, slot)) = pick(&mut self.kept, n) {
                    self.recycling += 1;
                    slot.retire(item);
                }
            }
            Step::TakeOut(n) => drop(pick(&mut self.held, n)),
            Step::Reserve => {
                let may = self.may_create();
                let slot = self.real.reserve();
                assert_eq!(slot.is_some(), may);
                match slot {
                    Some(slot) => self.creating.push(slot),
                    // The background task has items that are kept give way, too.
                    None => self.rung = self.is_starved(),
                }
            }
            Step::Created(n) => {
                if let Some(slot) = pick(&mut self.creating, n) {
                    let item = Item {
                        id: self.flags.len(),
                        flags: Arc::default(),
                    };
                    self.flags.push(item.flags.clone());
                    if n == 0 {
                        item.flags.spoilt.store(true, Ordering::Relaxed);
                    }
                    self.model_put(item.id);
                    assert_eq!(slot.put(item), n != 0);
                    self.rung = true;
                }
            }
            Step::NotCreated(n) => {
                if let Some(mut slot) = pick(&mut self.creating, n) {
                    if n % 2 == 0 {
                        slot.failed(None);
                    }
                    drop(slot);
                    self.rung = true;
                }
            }
            Step::Hopeless(n, may_return) => {
                if let Some(mut slot) = pick(&mut self.creating, n) {
                    // No waiter fails while an item on loan may come back. Items in creation are for the first in the queue.
                    if !may_return || self.in_use() + self.cleaning.len() == 0 {
                        let served = self.creating.len().min(self.queue.len());
                        self.failed.extend(self.queue.drain(served..));
                    }
                    let error = &EngineError::new(EngineErrorKind::Rejected, "wrong");
                    slot.failed(Some(super::Hopeless { error, may_return }));
                    drop(slot);
                    self.rung = true;
                }
            }
            Step::Die(n) => {
                if let Some(id) = self.idle.get(n).copied() {
                    self.idle.remove(n);
                    if n < self.outdated {
                        self.outdated -= 1;
                    }
                    self.recycling += 1;
                    let dead = self.real.evict(|item| item.id == id);
                    assert_eq!(dead.len(), 1);
                    for (item, slot) in dead {
                        self.real.give_away(item, slot);
                    }
                }
            }
            Step::Spoil(n) => {
                if !self.flags.is_empty() {
                    // The newest items are the ones that are still there.
                    let id = self.flags.len() - 1 - n % self.flags.len();
                    self.flags[id].spoilt.store(true, Ordering::Relaxed);
                }
            }
            Step::Removed => {
                if let Ok((_, slot)) = self.to_remove.try_recv() {
                    self.recycling -= 1;
                    drop(slot);
                }
            }
            Step::Outdate(n) => self.outdate(n),
            Step::MakeRoom => {
                let under_way = !self.creating.is_empty() || self.recycling > 0;
                let full = self.total() >= self.limits.max_total;
                if full && !under_way && self.outdated > 0 && self.wanted() > 0 {
                    self.model_drop_oldest();
                }
                self.real.make_room();
            }
            Step::EvictAboveMin(n) => {
                let mut expected = Vec::new();
                let mut i = 0;
                while i < self.idle.len() && self.idle.len() > self.limits.min_idle {
                    if self.idle[i] % 8 <= n {
                        expected.push(self.idle.remove(i));
                        self.outdated -= usize::from(i < self.outdated);
                    } else {
                        i += 1;
                    }
                }
                self.recycling += expected.len();
                let evicted = self.real.evict_above_min(|item| item.id % 8 <= n);
                assert_eq!(evicted.iter().map(|(item, _)| item.id).collect::<Vec<_>>(), expected);
                for (item, slot) in evicted {
                    self.real.give_away(item, slot);
                }
            }
            Step::Close => {
                self.closed = true;
                self.queue.clear();
                self.recycling += self.idle.len();
                self.idle.clear();
                self.outdated = 0;
                self.real.close();
            }
        }
    }

    fn take(&mut self, n: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let n = n % self.waiting.len();
        let number = self.waiting[n].number;
        if self.failed.contains(&number) {
            let turn = self.waiting[n].ticket.turn();
            assert!(matches!(turn, Some(Err(Unserved::CannotCreate(_)))), "{turn:?}");
            self.waiting.remove(n);
            return;
        }
        if self.late.contains(&number) {
            let turn = self.waiting[n].ticket.turn();
            assert!(matches!(turn, Some(Err(Unserved::TimedOut))), "{turn:?}");
            self.waiting.remove(n);
            return;
        }
        let served = self.served.iter().position(|(ticket, _)| *ticket == number);
        let mut expected = served.map(|i| self.served.remove(i).1);
        if expected.is_some_and(|id| self.flags[id].is_spoilt()) {
            // The waiter refuses the item. It gets an idle one, or its old place in the queue.
            self.recycling += 1;
            expected = self.model_pop();
            if expected.is_none() && !self.closed {
                self.queue.push_back(number);
                // Sorted by arrival.
                self.queue.make_contiguous().sort_unstable();
            }
        }
        match self.waiting[n].ticket.turn() {
            Some(Ok(item)) => {
                assert_eq!(Some(item.id), expected, "it was this one's turn, and this item's");
                self.hold(item);
            }
            Some(Err(Unserved::Closed)) => assert!(self.closed && expected.is_none()),
            Some(Err(unexpected)) => panic!("{unexpected:?}"),
            None => {
                assert!(expected.is_none() && !self.closed);
                return;
            }
        }
        // The ticket is used up.
        self.waiting.remove(n);
    }

    /// Makes the items outdated that `n` chooses, wherever they are.
    fn outdate(&mut self, n: usize) {
        let is_meant = |id: usize| id % 8 <= n;
        for flag in self.flags.iter().enumerate().filter(|(id, _)| is_meant(*id)) {
            flag.1.outdated.store(true, Ordering::Relaxed);
        }
        let known = self.outdated;
        let (old, new): (Vec<_>, Vec<_>) = self
            .idle
            .drain(..)
            .enumerate()
            .partition(|(i, id)| *i < known || is_meant(*id));
        self.outdated = old.len();
        self.idle = old.into_iter().chain(new).map(|(_, id)| id).collect();
        while self.outdated > 0 && self.idle.len() > self.limits.min_idle {
            self.model_drop_oldest();
        }
        self.real.outdate();
    }

    /// Asserts the rules that hold between two steps.
    fn check(&mut self) {
        let status = self.real.status();
        let expected = Status {
            idle: self.idle.len(),
            in_use: self.in_use(),
            kept: self.kept.len(),
            creating: self.creating.len(),
            recycling: self.recycling,
            cleaning: self.cleaning.len(),
            max_total: self.limits.max_total,
            waiting: self.queue.len(),
            lifetime: status.lifetime,
            ..Status::default()
        };
        assert_eq!(status, expected);
        let ever = status.lifetime;
        let there = (status.idle + status.in_use + status.kept + status.recycling) as u64;
        assert_eq!(
            ever.created + ever.adopted,
            ever.removed + ever.taken + there,
            "{ever:?}"
        );
        let ended = ever.returned + ever.discarded + ever.taken;
        let going = (status.in_use + status.kept + status.cleaning) as u64;
        assert_eq!(ever.lent, ended + going, "{ever:?}");
        assert!(status.total() <= self.limits.max_total);
        assert!(status.idle <= self.limits.max_idle);
        assert!(
            status.idle == 0 || status.waiting == 0,
            "no item is idle while a waiter is queued"
        );
        let idle: Vec<_> = self.real.state.lock().idle.iter().map(|item| item.id).collect();
        assert_eq!(idle, self.idle);
        assert_eq!(self.real.state.lock().outdated, self.outdated);
        assert_eq!(self.real.renewed().now_or_never().is_some(), self.outdated == 0);

        // The background task looks when it is notified, and when there is an item to be removed.
        self.rung |= self.real.demand().now_or_never().is_some() || !self.to_remove.is_empty();
        assert_eq!(self.real.is_starved(), self.is_starved());
        assert!(
            self.rung || !(self.may_create() || self.is_starved()),
            "the background task was not notified: {status}"
        );
    }

    /// Drops all that was taken, and asserts that every slot comes back.
    fn end(mut self) {
        self.waiting.clear();
        self.held.clear();
        self.kept.clear();
        self.creating.clear();
        self.cleaning.clear();
        while self.to_remove.try_recv().is_ok() {}
        assert_eq!(self.real.status().total(), self.real.status().idle);
        self.real.close();
        while self.to_remove.try_recv().is_ok() {}
        assert_eq!(self.real.status().total(), 0);
        assert_eq!(Arc::strong_count(&self.real), 1);
    }
}

/// Takes one element, if there is any.
fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.remove(n % from.len()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sequences_keep_to_the_model(limits in limits(), steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new(limits);
        world.check();
        for step in steps {
            world.step(step);
            world.check();
        }
        world.end();
    }
}

/// Returns an item that `spoil` spoils just after the judge has looked at it. No item is idle afterwards.
fn spoilt_as_it_comes_back(phase: Phase, spoil: fn(&Arc<Idle<Item>>, &Item)) {
    let limits = Limits {
        min_idle: 1,
        max_idle: 1,
        max_total: 1,
        max_creating: 1,
    };
    let World {
        real, mut to_remove, ..
    } = World::new(limits);
    let item = Item {
        id: 0,
        flags: Arc::default(),
    };
    let mut slot = real.reserve().unwrap();
    if phase == Phase::InUse {
        slot.put(item.clone());
        slot = match real.try_acquire() {
            Acquired::Now(_) => Slot::lent(real.clone()),
            _ => unreachable!("it was given in"),
        };
    }
    let ((looked, look), (happened, happening)) = (mpsc::channel(), mpsc::channel());
    *item.flags.pause.lock() = Some(Pause {
        looked,
        happened: happening,
    });
    let other = std::thread::spawn({
        let (real, item) = (real.clone(), item.clone());
        move || {
            look.recv().unwrap();
            spoil(&real, &item);
            // The receiver is gone where the other thread held the lock.
            let _ = happened.send(());
        }
    });
    slot.put(item);
    other.join().unwrap();
    let status = real.status();
    let left = real.state.lock().outdated;
    assert_eq!(status.idle, left, "what is idle is known to be outdated");
    if left == 0 {
        drop(to_remove.try_recv().expect("it is to be removed"));
    }
}

#[test]
fn a_death_is_seen_by_one_of_both_sides() {
    for phase in [Phase::Creating, Phase::InUse] {
        // As the pool does when the engine reports the death.
        spoilt_as_it_comes_back(phase, |idle, item| {
            item.flags.spoilt.store(true, Ordering::Release);
            for (item, slot) in idle.evict(|other| other.id == item.id) {
                idle.give_away(item, slot);
            }
        });
    }
}

#[test]
fn a_new_generation_is_seen_by_one_of_both_sides() {
    for phase in [Phase::Creating, Phase::InUse] {
        spoilt_as_it_comes_back(phase, |idle, item| {
            item.flags.outdated.store(true, Ordering::Release);
            idle.outdate();
        });
    }
}
