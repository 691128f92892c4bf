//! `samara validator`: this node's key, the set, and changes of it.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use samara_protocol::chain::{Validator, ValidatorSet};
use samara_protocol::signature::PublicKey;
use serde_json::json;

use super::arguments::{ProposeArguments, ValidatorCommand};
use super::display::{self, Align, Lines, Table};
use super::exit::Exit;
use super::failure::Failure;
use super::output::{agrees, typed};
use super::session::Session;
use crate::api::{
    AcceptClock, ChainStatus, Done, Included, SignedChange, ValidatorsAnswer, Wallet,
};
use crate::chain::ClockLead;
use crate::config::{NetworkFile, NodeConfig};
use crate::daemon::validator_key;
use crate::validators::{ChangeError, SetChange, Wish, wished};

/// Largest document that is read.
const MAX_DOCUMENT: u64 = 1 << 20;

/// Runs one of the commands.
pub async fn run(session: &Session, command: ValidatorCommand) -> Result<Exit, Failure> {
    match command {
        ValidatorCommand::Key { index } => key(session, index),
        ValidatorCommand::Set => set(session).await,
        ValidatorCommand::AcceptClock { yes } => accept_clock(session, yes).await,
        ValidatorCommand::Propose(arguments) => propose(session, arguments).await,
        ValidatorCommand::Sign { file, out, yes, index } => {
            sign(session, &file, out.as_deref(), yes, index).await
        }
        ValidatorCommand::Submit { files } => submit(session, &files).await,
    }
}

fn refused(error: ChangeError) -> Failure {
    let exit = match &error {
        ChangeError::Unreadable(_) | ChangeError::Set(_) => Exit::Usage,
        ChangeError::Unknown(_) => Exit::NotFound,
        _ => Exit::Refused,
    };
    Failure::of(exit, &error)
}

/// Works without a daemon: the key grows from the words.
fn key(session: &Session, index: Option<u32>) -> Result<Exit, Failure> {
    let data = session.data()?;
    let config = NodeConfig::read(&data.join("samara.toml"))?;
    let secret = validator_key(&config, &data, index)?;
    let key = secret.public().to_string();
    session.output.answer(&json!({ "key": key }), || format!("{key}\n"));
    Ok(Exit::Ok)
}

async fn set(session: &Session) -> Result<Exit, Failure> {
    let answer: ValidatorsAnswer = session.client()?.get("/v1/chain/validators").await?;
    session.output.answer(&answer, || set_text(&answer));
    Ok(Exit::Ok)
}

fn set_text(answer: &ValidatorsAnswer) -> String {
    let mut table =
        Table::new(&[("validator", Align::Left), ("power", Align::Right), ("", Align::Left)]);
    for row in &answer.validators {
        table.row([
            row.validator.key.to_string(),
            display::thousands(row.validator.power),
            if row.own { "this node" } else { "" }.to_owned(),
        ]);
    }
    let validators = display::count(answer.validators.len() as u64, "validator");
    let power = display::thousands(answer.power);
    table.render() + &format!("{validators}, power {power}; more than two thirds decide\n")
}

/// The blocks of a validator that decides alone do not follow its clock where it is far ahead of them.
async fn accept_clock(session: &Session, yes: bool) -> Result<Exit, Failure> {
    let client = session.client()?;
    let chain: ChainStatus = client.get("/v1/chain").await?;
    let Some(lead) = chain.clock_lead else {
        session.output.answer(&Done {}, || "the clock is believed: nothing is to do\n".to_owned());
        return Ok(Exit::Ok);
    };
    session.output.news(lead_text(&lead, crate::clock::now().0).trim_end());
    let person = std::io::stdin().is_terminal() && !session.output.is_json();
    if !yes && !person {
        return Err(Failure::new(Exit::Refused, "not accepted: there is nobody to ask")
            .with_hint("look at the times above, and accept the clock with --yes"));
    }
    if !yes && !confirmed("Is the clock right?").await {
        return Err(Failure::new(Exit::Interrupted, "not accepted"));
    }
    let shown = AcceptClock { ahead: lead.ahead };
    let done: Done = client.post("/v1/chain/accept-clock", &shown).await?;
    session.output.answer(&done, || "accepted: the next block has the clock's time\n".to_owned());
    Ok(Exit::Ok)
}

fn lead_text(lead: &ClockLead, now: u64) -> String {
    let mut lines = Lines::default();
    lines.line("clock", display::moment(now));
    lines.line("chain", display::moment(now.saturating_sub(lead.ahead)));
    let ahead = display::duration(std::time::Duration::from_millis(lead.ahead));
    lines.line("lead", format!("{ahead}; all contracts that end within it end at once, for good"));
    lines.render()
}

async fn propose(session: &Session, arguments: ProposeArguments) -> Result<Exit, Failure> {
    let wishes = wishes(&arguments)?;
    let client = session.client()?;
    let answer: ValidatorsAnswer = client.get("/v1/chain/validators").await?;
    let present = answer.validators.iter().map(|row| row.validator).collect();
    let present = ValidatorSet::new(present).map_err(ChangeError::from).map_err(refused)?;
    let next = wished(&present, &wishes).map_err(refused)?;
    let body = json!({ "validators": next.as_slice() });
    let document: SignedChange = client.post("/v1/chain/validators/propose", &body).await?;
    let change = SetChange::read(&document).map_err(refused)?;
    session.output.news(change_text(&change).trim_end());
    let wallet: Wallet = client.get("/v1/wallet").await?;
    if let Some(warning) = lacks_fee(&change, &wallet) {
        session.output.news(&warning);
    }
    hand_out(session, &change, arguments.out.as_deref())
}

/// Signatures may take days to gather; that the fee is missing is worth knowing before.
fn lacks_fee(change: &SetChange, wallet: &Wallet) -> Option<String> {
    let (account, fee) = (change.account(), change.transaction().body.fee);
    (wallet.account == account.to_string() && wallet.balance < fee).then(|| {
        let balance = wallet.balance;
        format!("account {account} has {balance}; submitting costs {fee}: send coins to it before")
    })
}

fn wishes(arguments: &ProposeArguments) -> Result<Vec<Wish>, Failure> {
    let key = |text: &str| {
        text.parse::<PublicKey>().map_err(|_| {
            let message = format!("'{text}' is no key: `samara validator key` prints one");
            Failure::new(Exit::Usage, message)
        })
    };
    let weighed = |text: &str| {
        let (name, power) = text.split_once('=').unwrap_or((text, "1"));
        let power = power.parse().map_err(|_| {
            Failure::new(Exit::Usage, format!("'{power}' is no power: a number is wanted"))
        })?;
        Ok::<_, Failure>(Validator { key: key(name)?, power })
    };
    let mut wishes = Vec::new();
    for text in &arguments.add {
        wishes.push(Wish::Add(weighed(text)?));
    }
    for text in &arguments.remove {
        wishes.push(Wish::Remove(key(text)?));
    }
    for text in &arguments.power {
        if !text.contains('=') {
            let message = format!("--power {text}: write it as KEY=POWER");
            return Err(Failure::new(Exit::Usage, message));
        }
        wishes.push(Wish::Weigh(weighed(text)?));
    }
    if wishes.is_empty() {
        let message = "nothing is to change: use --add, --remove or --power";
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(wishes)
}

/// What a change does and who has signed, for the one who is to sign it.
fn change_text(change: &SetChange) -> String {
    let mut lines = Lines::default();
    let (present, next) = (change.present(), change.next());
    for validator in next.as_slice() {
        match present.find(&validator.key) {
            None => lines.line("adds", format!("{}, power {}", validator.key, validator.power)),
            Some(before) if before.power != validator.power => lines.line(
                "changes",
                format!("{}, power {} to {}", validator.key, before.power, validator.power),
            ),
            Some(_) => {}
        }
    }
    for validator in present.as_slice().iter().filter(|v| next.find(&v.key).is_none()) {
        lines.line("removes", format!("{}, power {}", validator.key, validator.power));
    }
    let count = |set: &ValidatorSet| display::count(set.as_slice().len() as u64, "validator");
    lines.line("set", format!("{}, {} before", count(next), present.as_slice().len()));
    lines.line("chain", format!("genesis {}", change.genesis()));
    let (signed, total) = (change.signed_power(), present.total_power());
    let state = if change.is_approved() { "enough" } else { "more than two thirds are needed" };
    lines.line("signed", format!("power {signed} of {total}: {state}"));
    lines.render()
}

/// Works without a daemon, on a machine with the words.
async fn sign(
    session: &Session,
    file: &Path,
    out: Option<&Path>,
    yes: bool,
    index: Option<u32>,
) -> Result<Exit, Failure> {
    let mut change = read(file)?;
    let data = session.data()?;
    let config = NodeConfig::read(&data.join("samara.toml"))?;
    let network = NetworkFile::read(&data.join(&config.network))?;
    if network.genesis()?.hash() != change.genesis() {
        return Err(refused(ChangeError::OtherChain(change.genesis())));
    }
    session.output.news(change_text(&change).trim_end());
    let person =
        file != Path::new("-") && std::io::stdin().is_terminal() && !session.output.is_json();
    if !yes && !person {
        return Err(Failure::new(Exit::Refused, "not signed: there is nobody to ask")
            .with_hint("look at the change above, and sign it with --yes"));
    }
    if !yes && !confirmed("Sign this change?").await {
        return Err(Failure::new(Exit::Interrupted, "not signed"));
    }
    let secret = validator_key(&config, &data, index)?;
    change.sign(&secret).map_err(refused)?;
    let (signed, total) = (change.signed_power(), change.present().total_power());
    session.output.news(&format!("signed; power {signed} of {total} now"));
    hand_out(session, &change, out)
}

async fn confirmed(question: &'static str) -> bool {
    typed(move || agrees(question)).await
}

async fn submit(session: &Session, files: &[std::path::PathBuf]) -> Result<Exit, Failure> {
    let mut joined: Option<SetChange> = None;
    for file in files {
        let change = read(file)?;
        match &mut joined {
            Some(joined) => joined.join(&change).map_err(refused)?,
            None => joined = Some(change),
        }
    }
    let change = joined.ok_or_else(|| Failure::new(Exit::Usage, "name a file"))?;
    session.output.news(change_text(&change).trim_end());
    let included: Included =
        session.client()?.post("/v1/chain/validators/submit", &change.document()).await?;
    session.output.answer(&included, || {
        let height = display::thousands(included.height);
        format!("in block {height}; the new set decides from the next block on\n")
    });
    Ok(Exit::Ok)
}

fn read(file: &Path) -> Result<SetChange, Failure> {
    let mut text = String::new();
    let outcome = if file == Path::new("-") {
        std::io::stdin().lock().take(MAX_DOCUMENT).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(MAX_DOCUMENT).read_to_string(&mut text))
    };
    outcome.map_err(|error| {
        let exit = match error.kind() {
            std::io::ErrorKind::NotFound => Exit::NotFound,
            _ => Exit::Failure,
        };
        Failure::new(exit, format!("cannot read {}: {error}", file.display()))
    })?;
    let document =
        document(&text).map_err(|error| refused(ChangeError::Unreadable(error.to_string())))?;
    SetChange::read(&document).map_err(refused)
}

/// A change as it was written to a file, or as `--json` printed it.
fn document(text: &str) -> serde_json::Result<SignedChange> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("message_type");
    }
    serde_json::from_value(value)
}

/// Writes the document to a file or to standard output; it is JSON in either case.
fn hand_out(session: &Session, change: &SetChange, out: Option<&Path>) -> Result<Exit, Failure> {
    let document = change.document();
    let Some(path) = out else {
        session.output.answer(&document, || {
            let text = serde_json::to_string_pretty(&document);
            text.expect("invariant: a document is numbers, keys and texts") + "\n"
        });
        return Ok(Exit::Ok);
    };
    let text = serde_json::to_vec_pretty(&document)
        .expect("invariant: a document is numbers, keys and texts");
    std::fs::write(path, text).map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot write {}: {error}", path.display()))
    })?;
    session.output.answer(&json!({ "file": path }), || format!("written to {}\n", path.display()));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use samara_protocol::hash::BlockHash;
    use samara_protocol::signature::SecretKey;
    use samara_protocol::units::Amount;

    use super::*;

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&zeroize::Zeroizing::new([number; 32]))
    }

    #[test]
    fn wishes_are_read_as_operators_write_them() {
        let (one, two) = (key(1).public(), key(2).public());
        let arguments = ProposeArguments {
            add: vec![one.to_string(), format!("{two}=3")],
            remove: vec![two.to_string()],
            power: vec![format!("{one}=9")],
            out: None,
        };
        let expected = [
            Wish::Add(Validator { key: one, power: 1 }),
            Wish::Add(Validator { key: two, power: 3 }),
            Wish::Remove(two),
            Wish::Weigh(Validator { key: one, power: 9 }),
        ];
        assert_eq!(wishes(&arguments).unwrap(), expected);
        let bad = [
            ProposeArguments::default(),
            ProposeArguments { add: vec!["me".into()], ..ProposeArguments::default() },
            ProposeArguments { add: vec![format!("{one}=x")], ..ProposeArguments::default() },
            ProposeArguments { power: vec![one.to_string()], ..ProposeArguments::default() },
        ];
        for arguments in bad {
            assert_eq!(wishes(&arguments).unwrap_err().exit, Exit::Usage, "{arguments:?}");
        }
    }

    #[test]
    fn a_change_is_written_read_and_shown() {
        let validator = |number, power| Validator { key: key(number).public(), power };
        let present = ValidatorSet::new(vec![validator(1, 1), validator(2, 1)]).unwrap();
        let wishes = [
            Wish::Add(validator(3, 2)),
            Wish::Remove(key(1).public()),
            Wish::Weigh(validator(2, 5)),
        ];
        let next = wished(&present, &wishes).unwrap();
        let account = (key(9).public(), 0);
        let mut change = SetChange::propose(BlockHash([7; 32]), account, Amount(1), present, next);
        let wallet =
            |balance| Wallet { account: account.0.to_string(), balance, nonce: 0, moved_by: None };
        assert!(lacks_fee(&change, &wallet(Amount::ZERO)).is_some());
        assert!(lacks_fee(&change, &wallet(Amount(1))).is_none());
        change.sign(&key(1)).unwrap();
        let document = serde_json::to_string(&change.document()).unwrap();
        assert!(document.contains(&key(3).public().to_string()), "{document}");
        let text = change_text(&change);
        assert!(text.contains(&format!("adds         {}, power 2\n", key(3).public())), "{text}");
        assert!(text.contains(&format!("removes      {}, power 1\n", key(1).public())), "{text}");
        assert!(text.contains("power 1 to 5\n"), "{text}");
        assert!(text.contains("signed       power 1 of 2: more than two thirds"), "{text}");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("change.json");
        std::fs::write(&path, serde_json::to_vec(&change.document()).unwrap()).unwrap();
        assert_eq!(read(&path).unwrap(), change);
        assert_eq!(read(&folder.path().join("none")).unwrap_err().exit, Exit::NotFound);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path).unwrap_err().exit, Exit::Usage);
    }
}
