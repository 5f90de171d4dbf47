//! Running a tool to its end.

use std::process::{Command, Output};

use super::LabError;

/// The command line as an operator would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

/// Runs a tool to its end, whatever its exit code, and returns all it wrote.
///
/// # Errors
/// [`LabError::Start`] where it cannot be started.
pub fn output(command: &mut Command) -> Result<Output, LabError> {
    command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| LabError::Start { command: line(command), source })
}

/// Runs a tool that must end with 0 and returns what it wrote to standard output.
///
/// # Errors
/// [`LabError::Start`], or [`LabError::Failed`] with what it wrote.
pub fn succeed(command: &mut Command) -> Result<String, LabError> {
    let output = output(command)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let said = if stderr.trim().is_empty() { stdout } else { stderr };
    Err(LabError::Failed { command: line(command), status: output.status, output: said })
}

/// A tool with its arguments given as one line, split at spaces; for commands without an argument that holds one.
#[must_use]
pub fn split(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("true"));
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted() {
        let said = succeed(&mut split("ls /does/not/exist")).expect_err("no such folder").to_string();
        assert!(said.starts_with("`ls /does/not/exist` ended with exit status"), "{said}");
        assert!(said.contains("No such file"), "{said}");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let said = succeed(&mut split("no-such-tool-here -x")).expect_err("missing").to_string();
        assert!(said.starts_with("cannot start `no-such-tool-here -x`"), "{said}");
    }
}
