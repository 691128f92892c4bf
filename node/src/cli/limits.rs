//! `samara limits`.

use samara_renter::contract::LineRates;

use super::arguments::LimitsArguments;
use super::display::{self, Lines};
use super::exit::Exit;
use super::failure::Failure;
use super::session::Session;
use crate::api::LimitsRequest;

/// Sets limits of transfers, or shows them.
pub async fn run(session: &Session, arguments: &LimitsArguments) -> Result<Exit, Failure> {
    let request = LimitsRequest {
        upload: arguments.upload.map(|bytes| bytes.0),
        download: arguments.download.map(|bytes| bytes.0),
        reset: arguments.reset,
    };
    let client = session.client()?;
    let sets = request.reset || request.upload.is_some() || request.download.is_some();
    let rates: LineRates = match sets {
        true => client.post("/v1/limits", &request).await?,
        false => client.get("/v1/limits").await?,
    };
    session.output.answer(&rates, || text(&rates));
    Ok(Exit::Ok)
}

fn text(rates: &LineRates) -> String {
    let rate = |bytes| match bytes {
        0 => "no limit".to_owned(),
        bytes => format!("{}/s", display::size(bytes)),
    };
    let mut lines = Lines::default();
    lines.line("upload", rate(rates.upload));
    lines.line("download", rate(rates.download));
    lines.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rate_is_no_limit() {
        let shown = text(&LineRates { upload: 2_000_000, download: 0 });
        assert_eq!(shown, "upload       2.0 MB/s\ndownload     no limit\n");
    }
}
