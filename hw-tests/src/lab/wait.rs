//! Waiting by looking: a condition is polled until it holds or its deadline is over. Nothing here sleeps for
//! a guessed time and hopes.

use std::time::{Duration, Instant};

use super::LabError;

/// How often a condition is looked at. Short, since a look is cheap beside what is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What a look at a condition showed.
#[derive(Debug)]
pub enum Look<T> {
    /// It holds, with what was found.
    Done(T),
    /// Not yet, with what was seen, for the error message.
    NotYet(String),
}

impl<T> From<Option<T>> for Look<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or_else(|| Look::NotYet("nothing".to_owned()), Look::Done)
    }
}

impl From<bool> for Look<()> {
    fn from(holds: bool) -> Self {
        holds.then_some(()).into()
    }
}

impl<T, E: std::fmt::Display> From<Result<T, E>> for Look<T> {
    fn from(tried: Result<T, E>) -> Self {
        tried.map_or_else(|error| Look::NotYet(error.to_string()), Look::Done)
    }
}

/// Looks until the condition holds and returns what was found. `look` may return a `bool`, an `Option`, a
/// `Result` or a [`Look`]; it is called at least once, and once more after the deadline has passed.
///
/// # Errors
/// [`LabError::Deadline`] with what the last look showed.
pub fn wait_until<T, L: Into<Look<T>>>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> L,
) -> Result<T, LabError> {
    let begin = Instant::now();
    loop {
        let late = begin.elapsed() >= deadline;
        match look().into() {
            Look::Done(found) => return Ok(found),
            Look::NotYet(last) if late => {
                return Err(LabError::Deadline { what: what.to_owned(), deadline, last });
            }
            Look::NotYet(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_true_is_returned() {
        let mut looks = 0;
        let found = wait_until("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.ok(), Some(3));
    }

    #[test]
    fn what_does_not_come_true_names_itself_and_the_last_look() {
        let tried =
            wait_until("rain", Duration::ZERO, || -> Look<()> { Look::NotYet("sunshine".to_owned()) });
        let said = tried.expect_err("it never holds").to_string();
        assert!(said.contains("rain") && said.contains("sunshine"), "{said}");
    }
}
