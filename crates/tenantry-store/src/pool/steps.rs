//! A future that computes in turns, however many others the same threads serve.
//!
//! Work that runs where its request is would otherwise be ordered by the runtime, first come first
//! served: with as many places as threads, nobody ever has to wait at the gate. So whoever wants
//! to take a step queues for it, and free places are given out a moment later, when all tasks that
//! are ready have had the time to queue as well.

use super::{Class, Place, Pool, Turn, Waiting, gate::Who};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::Result;
use tokio::runtime::Handle;

/// Nanoseconds after which places are given out by whoever comes by.
const GIVEN_OUT_WITHIN: u64 = 200_000;

thread_local! {
    /// The step that this thread is taking.
    static STEP: Cell<Option<Step>> = const { Cell::new(None) };
}

/// A step of a future that runs in turns.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Whose, by address: two pools of one process are two gates.
    pool: usize,
    /// How long it had to wait for its place; `None` for a free step, which has none.
    waited: Option<Duration>,
    /// For whom it counts, and those after it.
    billed: TenantId,
}

/// Marks this thread as taking a step, until it is dropped.
struct Marked(Option<Step>);

impl Marked {
    fn new(step: Step) -> Self {
        Self(STEP.replace(Some(step)))
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        STEP.set(self.0);
    }
}

impl Pool {
    /// Runs what serves a request in turns: whenever it can go on, it waits for a place, has it
    /// while it computes, and gives it back when it must wait for something else. A turn that it
    /// asks for meanwhile is part of the one it has.
    ///
    /// With `has_body`, the first step is free. It ends where the body is awaited, or where a turn
    /// is asked for: what comes before costs less than a turn. Without, nothing would end it.
    ///
    /// [`ErrorKind::Busy`](tenantry_types::ErrorKind::Busy) if too much waits already; nothing has
    /// been done then but what comes before the body.
    pub async fn in_turns<F: Future>(
        &self,
        tenant: TenantId,
        weight: u32,
        has_body: bool,
        future: F,
    ) -> Result<F::Output> {
        let mut future = pin!(future);
        let mut mark = Step { pool: self.address(), waited: None, billed: tenant };
        if has_body {
            if let Poll::Ready(output) = step(future.as_mut(), &mut mark).await {
                return Ok(output);
            }
            woken().await;
        }
        let who = Who { tenant, weight: weight.clamp(1, 10_000), class: Class::Request };
        let mut is_admitted = false;
        loop {
            let asked = Instant::now();
            let mut turn = Turn::start(self.announced(who, is_admitted).await?);
            turn.place.is_step = true;
            is_admitted = true;
            mark.waited = Some(asked.elapsed());
            let polled = step(future.as_mut(), &mut mark).await;
            turn.bill(mark.billed);
            drop(turn);
            if let Poll::Ready(output) = polled {
                return Ok(output);
            }
            woken().await;
        }
    }

    /// Counts the CPU time of the request that this thread serves for this tenant, from the step on
    /// that it is taking: an operator's request is for the tenant that it acts in.
    pub fn bill_here(&self, tenant: TenantId) {
        if let Some(step) = self.marked_here() {
            STEP.set(Some(Step { billed: tenant, ..step }));
        }
    }

    /// For whom the request counts that this thread serves, if it serves one.
    pub fn billed_here(&self) -> Option<TenantId> {
        self.marked_here().map(|step| step.billed)
    }

    fn marked_here(&self) -> Option<Step> {
        STEP.get().filter(|step| step.pool == self.address())
    }

    /// How long the step that this thread is taking has waited for its place; `None` outside of
    /// such steps. Ends a free step: its future goes on in a step that has a place. To queue for
    /// a place in here would be a wait within a wait, each for what the other one holds.
    pub(super) async fn step_here(&self) -> Option<Duration> {
        poll_fn(|context| match self.marked_here() {
            Some(Step { waited: None, .. }) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step { waited, .. }) => Poll::Ready(waited),
            None => Poll::Ready(None),
        })
        .await
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Waits for a place: not at all if nobody computes or has just done so.
    async fn announced(&self, who: Who, is_admitted: bool) -> Result<Place> {
        let mut waiting = {
            let mut gate = self.0.gate.lock();
            let is_quiet = gate.is_idle() && self.0.gives_out_soon.load(Ordering::Acquire) == 0;
            if is_quiet && gate.take(who.class) {
                drop(gate);
                return Ok(self.place(who));
            }
            Waiting::join(self, &mut gate, who, is_admitted)?
        };
        self.give_out_soon();
        Ok(waiting.place().await)
    }

    /// Gives free places out when the tasks that are ready now have run.
    pub(super) fn give_out_soon(&self) {
        let now = self.0.meter.wall().max(1);
        let soon = &self.0.gives_out_soon;
        if let Err(told) = soon.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire) {
            // The task may stand behind a long one that does not let go of its thread.
            if now.saturating_sub(told) > GIVEN_OUT_WITHIN {
                self.give_out();
            }
            return;
        }
        let due = Due(self.clone());
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                behind_others().await;
                drop(due);
            });
        }
    }
}

/// Gives places out when it is dropped: also with the runtime that it should have run on.
struct Due(Pool);

impl Drop for Due {
    fn drop(&mut self) {
        self.0.0.gives_out_soon.store(0, Ordering::Release);
        self.0.give_out();
    }
}

/// Lets the tasks run that are ready on this thread. The runtime's own way to yield waits until
/// none is left, which is too long here.
async fn behind_others() {
    let mut is_behind = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_behind, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// One step of a future, which may change for whom it counts.
async fn step<F: Future>(mut future: Pin<&mut F>, mark: &mut Step) -> Poll<F::Output> {
    poll_fn(|context| {
        let _marked = Marked::new(*mark);
        let polled = future.as_mut().poll(context);
        if let Some(now) = STEP.get() {
            mark.billed = now.billed;
        }
        Poll::Ready(polled)
    })
    .await
}

/// Waits until the task is woken: by what its future waits for.
async fn woken() {
    let mut is_woken = false;
    poll_fn(
        |_| if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}
