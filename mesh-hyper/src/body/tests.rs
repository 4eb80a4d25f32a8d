use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use proptest::prelude::*;

use super::{progress::Phase, *};

/// One step of a scripted body.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Data(Vec<u8>),
    Trailers(String),
    Pending,
    Error,
}

#[derive(Debug)]
struct Scripted(VecDeque<Step>);

impl Scripted {
    fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.0.pop_front() {
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data.into())))),
            Some(Step::Trailers(value)) => Poll::Ready(Some(Ok(Frame::trailers(trailers(&value))))),
            Some(Step::Pending) => Poll::Pending,
            Some(Step::Error) => Poll::Ready(Some(Err(io::Error::other("scripted")))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.0.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(data.sum())
    }
}

fn trailers(value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("letters");
    HeaderMap::from_iter([(http::header::ETAG, value)])
}

fn data(text: &str) -> Step {
    Step::Data(text.as_bytes().to_vec())
}

fn poll_with(body: &mut Outgoing, waker: &Waker) -> Poll<Option<Result<Step, BoxError>>> {
    let mut cx = Context::from_waker(waker);
    Pin::new(body)
        .poll_frame(&mut cx)
        .map_ok(|frame| match frame.into_data() {
            Ok(data) => Step::Data(data.to_vec()),
            Err(frame) => {
                let trailers = frame.into_trailers().expect("data or trailers");
                Step::Trailers(trailers["etag"].to_str().expect("letters").to_owned())
            }
        })
}

fn poll(body: &mut Outgoing) -> Poll<Option<Result<Step, BoxError>>> {
    poll_with(body, Waker::noop())
}

fn next(body: &mut Outgoing) -> Option<Step> {
    loop {
        if let Poll::Ready(frame) = poll(body) {
            return frame.map(|frame| frame.expect("no error here"));
        }
    }
}

fn rest(body: &mut Outgoing) -> Vec<Step> {
    std::iter::from_fn(|| next(body)).collect()
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn an_empty_body_is_nothing() {
    for (mut body, keeper) in [
        Outgoing::new(http_body_util::Empty::<Bytes>::new()),
        Outgoing::replayable(Scripted::of([]), 10),
    ] {
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(next(&mut body), None);
        assert!(keeper.is_untouched());
        keeper.cancel();
        keeper.commit();
        assert!(keeper.again().expect("nothing is missing").is_end_stream());
    }
}

#[test]
fn an_untouched_body_can_be_sent_again() {
    let (first, keeper) = Outgoing::new(Scripted::of([data("a"), Step::Trailers("t".into())]));
    assert_eq!(first.size_hint().exact(), Some(1));
    assert!(!first.is_end_stream());
    assert!(keeper.is_untouched(), "hints touch nothing");
    drop(first);

    let mut second = keeper.again().expect("untouched");
    assert_eq!(rest(&mut second), [data("a"), Step::Trailers("t".into())]);
    assert!(!keeper.is_untouched());
    assert!(
        keeper.again().is_none(),
        "without replay, what is sent is gone"
    );
}

#[test]
fn a_superseded_attempt_ends_in_an_error_and_never_looks_complete() {
    let (mut first, keeper) = Outgoing::replayable(Scripted::of([data("abc")]), 1000);
    assert_eq!(next(&mut first), Some(data("abc")));
    assert!(first.is_end_stream());

    let mut second = keeper.again().expect("all is kept");
    assert!(!first.is_end_stream());
    assert_eq!(first.size_hint().upper(), None);
    let Poll::Ready(Some(Err(error))) = poll(&mut first) else {
        panic!("no error")
    };
    assert!(error.is::<Withdrawn>());
    let reason = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    assert_eq!(reason.and_then(h2::Error::reason), Some(h2::Reason::CANCEL));

    assert_eq!(second.size_hint().exact(), Some(3));
    assert!(!second.is_end_stream());
    assert_eq!(next(&mut second), Some(data("abc")));
    assert!(second.is_end_stream());
    assert_eq!(second.size_hint().exact(), Some(0));
    assert_eq!(next(&mut second), None);
}

#[test]
fn overflow_commits_the_body() {
    let steps = [
        Step::Data(vec![1; 100]),
        Step::Data(vec![2; 100]),
        data("x"),
    ];
    let (mut body, keeper) = Outgoing::replayable(Scripted::of(steps.clone()), 150);
    assert_eq!(next(&mut body).as_ref(), Some(&steps[0]));
    let mut body = keeper.again().expect("100 of 150 bytes");
    assert_eq!(next(&mut body).as_ref(), Some(&steps[0]));
    assert_eq!(next(&mut body).as_ref(), Some(&steps[1]));
    assert!(keeper.again().is_none(), "200 of 150 bytes");
    assert_eq!(rest(&mut body), [data("x")], "and the attempt goes on");
}

#[test]
fn many_empty_frames_overflow_too() {
    let (mut body, keeper) = Outgoing::replayable(Scripted::of(vec![data(""); 200]), 100 * 64);
    for _ in 0..100 {
        next(&mut body);
    }
    let mut body = keeper.again().expect("100 frames are within the limit");
    for _ in 0..101 {
        next(&mut body);
    }
    assert!(keeper.again().is_none());
    assert_eq!(rest(&mut body).len(), 99);
}

#[test]
fn an_error_cannot_be_replayed() {
    let (mut body, keeper) = Outgoing::replayable(Scripted::of([data("a"), Step::Error]), 1000);
    next(&mut body);
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(_)))));
    assert!(keeper.again().is_none());
    assert_eq!(next(&mut body), None);
}

#[test]
fn an_early_reply_commits_the_attempt_under_way() {
    let steps = [data("a"), data("b"), data("c"), Step::Trailers("t".into())];
    let (mut first, keeper) = Outgoing::replayable(Scripted::of(steps.clone()), 1000);
    for _ in 0..3 {
        next(&mut first);
    }
    let mut second = keeper.again().expect("all is kept");
    assert_eq!(next(&mut second), Some(data("a")));
    // Response headers before `b` was sent again.
    keeper.commit();
    assert!(keeper.again().is_none());
    assert_eq!(rest(&mut second), &steps[1..]);
}

#[test]
fn commit_releases_what_was_kept() {
    struct Watched(Arc<[u8; 7]>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    let payload = Arc::new(*b"payload");
    let bytes = Bytes::from_owner(Watched(Arc::clone(&payload)));
    let (mut body, keeper) = Outgoing::replayable(http_body_util::Full::new(bytes), 1000);
    next(&mut body);
    assert_eq!(Arc::strong_count(&payload), 2, "kept");
    keeper.commit();
    assert_eq!(Arc::strong_count(&payload), 1, "released");
}

#[test]
fn another_attempt_wakes_the_one_that_waits_and_has_its_own_waker() {
    let steps = [data("a"), Step::Pending, data("b")];
    let (mut first, keeper) = Outgoing::replayable(Scripted::of(steps), 1000);
    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let old_waker = Waker::from(Arc::clone(&old));
    assert!(poll_with(&mut first, &old_waker).is_ready());
    assert!(poll_with(&mut first, &old_waker).is_pending());

    let mut second = keeper.again().expect("all is kept");
    assert_eq!(old.0.load(Ordering::Relaxed), 1, "told at once");
    let new_waker = Waker::from(Arc::clone(&new));
    assert!(poll_with(&mut second, &new_waker).is_ready());
    assert!(matches!(
        poll_with(&mut first, &old_waker),
        Poll::Ready(Some(Err(_)))
    ));
    assert_eq!(
        next(&mut second),
        Some(data("b")),
        "the old one took nothing"
    );
}

#[test]
fn cancel_withdraws_the_body_from_whoever_waits_for_it() {
    let (mut body, keeper) = Outgoing::new(Scripted::of([data("a"), Step::Pending, data("b")]));
    let waiting = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&waiting));
    assert!(poll_with(&mut body, &waker).is_ready());
    assert!(poll_with(&mut body, &waker).is_pending());
    keeper.commit();
    keeper.cancel();
    assert_eq!(waiting.0.load(Ordering::Relaxed), 1);
    let Poll::Ready(Some(Err(error))) = poll(&mut body) else {
        panic!("no error")
    };
    assert!(error.is::<Withdrawn>());
    assert!(keeper.again().is_none());
}

#[test]
fn the_end_of_sending_is_seen_whether_hyper_asks_for_it_or_not() {
    let watched = |steps: &[Step]| Outgoing::watched(Scripted::of(steps.to_vec()), 1000);
    // It never says that it is at its end.
    let frames = [data("a"), data("b"), Step::Pending];
    let (mut body, keeper) = watched(&frames);
    assert_eq!(keeper.progress().phase, Phase::Queued);
    assert_eq!(next(&mut body), Some(data("a")));
    assert_eq!(keeper.progress().phase, Phase::Sending);
    // Nothing that becomes of the attempt before says anything of this one.
    let mut again = keeper.again().expect("it is kept");
    assert_eq!(keeper.progress().phase, Phase::Queued);
    drop(body);
    assert_eq!(keeper.progress().phase, Phase::Queued);
    assert_eq!(next(&mut again), Some(data("a")));
    assert_eq!(next(&mut again), Some(data("b")));
    assert_eq!(keeper.progress().phase, Phase::Sending);
    drop(again);
    assert_eq!(keeper.progress().phase, Phase::Sent);

    // Trailers are the last of it, whatever the body says.
    let (mut body, keeper) = watched(&[data("a"), Step::Trailers("t".into()), Step::Pending]);
    next(&mut body);
    assert_eq!(next(&mut body), Some(Step::Trailers("t".into())));
    assert_eq!(keeper.progress().phase, Phase::Sent);
    assert!(body.is_end_stream());
    let mut again = keeper.again().expect("it is kept");
    assert_eq!(keeper.progress().phase, Phase::Sent, "all of it is here");
    assert_eq!(rest(&mut again), [data("a"), Step::Trailers("t".into())]);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::Data),
        2 => Just(Step::Pending),
    ];
    (
        prop::collection::vec(step, 0..12),
        prop::option::of("[a-z]{1,8}"),
    )
        .prop_map(|(mut steps, trailers)| {
            steps.extend(trailers.map(Step::Trailers));
            steps
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is cut off where, each attempt sees a prefix of the original, the last one all of
    /// it; and there is another attempt exactly while all that was sent fits the limit.
    #[test]
    fn every_attempt_sees_the_original(
        steps in steps(),
        cuts in prop::collection::vec(0usize..14, 0..4),
        limit in 0usize..2000,
    ) {
        let original: Vec<Step> =
            steps.iter().filter(|step| **step != Step::Pending).cloned().collect();
        let costs: Vec<usize> = original
            .iter()
            .map(|step| match step {
                Step::Data(data) => data.len().max(64),
                Step::Trailers(value) => (4 + value.len() + 32).max(64),
                _ => 0,
            })
            .collect();
        let (mut body, keeper) = Outgoing::replayable(Scripted::of(steps), limit);
        let mut furthest = 0;
        for cut in cuts {
            let seen: Vec<Step> = std::iter::from_fn(|| next(&mut body)).take(cut).collect();
            prop_assert_eq!(&seen[..], &original[..seen.len()]);
            furthest = furthest.max(seen.len());
            let fits = costs[..furthest].iter().sum::<usize>() <= limit;
            match keeper.again() {
                Some(again) => {
                    prop_assert!(fits);
                    body = again;
                    let left: usize = original.iter().map(|step| match step {
                        Step::Data(data) => data.len(),
                        _ => 0,
                    }).sum();
                    prop_assert_eq!(body.size_hint().exact(), Some(left as u64));
                }
                None => {
                    prop_assert!(!fits);
                    prop_assert_eq!(rest(&mut body), &original[seen.len()..]);
                    return Ok(());
                }
            }
        }
        keeper.commit();
        prop_assert_eq!(rest(&mut body), original.clone());
        prop_assert!(keeper.again().is_none() || original.is_empty());
    }
}

/// A body whose next frame does what a caller's code may do.
struct Does<F>(Option<F>);

impl<F: FnOnce() -> Poll<Option<Result<Frame<Bytes>, io::Error>>> + Unpin> Body for Does<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.take().map_or(Poll::Ready(None), |does| does())
    }
}

#[test]
fn a_body_may_drop_the_response_from_within() {
    let keeper = Arc::new(parking_lot::Mutex::new(None::<Keeper>));
    let inner = Arc::clone(&keeper);
    let (mut body, kept) = Outgoing::replayable(
        Does(Some(move || {
            // What the drop of a response does.
            if let Some(keeper) = inner.lock().take() {
                keeper.commit();
                keeper.cancel();
            }
            Poll::Pending
        })),
        1024,
    );
    *keeper.lock() = Some(kept);
    let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Some(Err(error))) if error.is::<Withdrawn>()));
}

#[test]
fn a_body_that_panics_ends_its_own_stream() {
    let (mut body, keeper) = Outgoing::replayable(
        Does(Some(|| -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            panic!("of the caller")
        })),
        1024,
    );
    let mut cx = Context::from_waker(Waker::noop());
    let polled = Pin::new(&mut body).poll_frame(&mut cx);
    assert!(
        matches!(polled, Poll::Ready(Some(Err(error))) if error.to_string().contains("panicked"))
    );
    assert!(matches!(
        Pin::new(&mut body).poll_frame(&mut cx),
        Poll::Ready(None)
    ));
    assert!(keeper.again().is_none(), "frames of it are gone");
}
