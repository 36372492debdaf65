//! Pages of a service that is throttled: waited for where they are read.

use std::time::Duration;

use audit_exporter_core::plugin::UnitWriter;
use audit_exporter_core::{Kind, Result};
use bytes::Bytes;

/// A page that is refused for now is asked for this often again. To give up its reading would be to read it all again,
/// and a limit that is less than a reading would never let one end.
const MOST_WAITS: u32 = 5;
/// The first wait, if the service asks for none; each further one is twice as long.
const WAIT: Duration = Duration::from_secs(10);
/// For a longer one a reading is not kept.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Asks for a page, and asks again while the service has no room for it. Holds up no other fetch meanwhile.
pub(crate) async fn page<F>(out: &mut UnitWriter, ask: impl Fn() -> F) -> Result<Bytes>
where
    F: Future<Output = Result<Bytes>>,
{
    let mut waits = 0;
    loop {
        let error = match ask().await {
            Err(error) if error.kind() == Kind::Throttled && waits < MOST_WAITS => error,
            answer => return answer,
        };
        let wait = error.retry_after().unwrap_or(WAIT * (1 << waits));
        if wait > LONGEST_WAIT {
            return Err(error);
        }
        tracing::debug!(?wait, %error, "the page waits");
        waits += 1;
        out.wait(wait).await?;
    }
}
