//! `POST /v1/backup`: the whole log in one file, sent while it is written. Knows neither engine nor format.

use crate::accept;
use crate::headers::EPOCH;
use crate::parameters::Parameters;
use crate::problem::Problem;
use crate::state::Shared;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

const BACKUP: &str = "application/octet-stream";
/// Bytes that are sent at once.
const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces may wait for a caller that reads slowly.
const PIECES_WAITING: usize = 4;
/// When to come back if another backup is being taken.
const RETRY_AFTER: Duration = Duration::from_secs(10);

type WriteBackup = dyn Fn(&mut dyn Write) -> Result<(), String> + Send + Sync;

/// Takes backups of the log, one at a time.
#[derive(Clone)]
pub struct Backups {
    write: Arc<WriteBackup>,
    running: Arc<AtomicBool>,
}

impl Backups {
    /// Backups are what `write` writes; an error breaks off the answer, so that nobody takes it for a whole one.
    pub fn new(write: impl Fn(&mut dyn Write) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self {
            write: Arc::new(write),
            running: Arc::default(),
        }
    }

    fn begin(&self) -> Option<Turn> {
        let taken = self.running.swap(true, Ordering::AcqRel);
        (!taken).then(|| Turn(self.running.clone()))
    }
}

/// Held while a backup is taken.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

pub(crate) async fn backup(State(shared): State<Shared>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    accept::negotiate(&headers, &[BACKUP])?;
    Parameters::of(&uri, &[])?;
    let Some(backups) = shared.api.backups.clone() else {
        return Err(Problem::not_implemented("a backup of this engine's log"));
    };
    let turn = backups.begin().ok_or_else(|| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "Overloaded",
            "another backup is being taken: try again when it is done",
        )
        .retry_after(RETRY_AFTER)
    })?;
    let (sender, receiver) = mpsc::channel(PIECES_WAITING);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut out = BufWriter::with_capacity(PIECE_BYTES, Pieces(sender.clone()));
        let written = (backups.write)(&mut out).and_then(|()| out.flush().map_err(|error| error.to_string()));
        if let Err(error) = written {
            tracing::error!(error, "a backup over HTTP was broken off");
            // Nobody is left to be told when the caller has gone.
            let _ = sender.blocking_send(Err(io::Error::other("the backup was broken off")));
        }
    });
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(BACKUP));
    answer.insert(EPOCH, shared.epoch.clone());
    Ok(response)
}

/// Hands over what is written to the task that sends it; waits while the caller does not read.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the caller has gone");
        self.0.blocking_send(Ok(piece)).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
