//! Clients for what pgbench cannot do: many tenants at once, and one client's latencies beside another's. Their own CPU is not
//! counted. They speak through sqlx and send simple queries.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rand::Rng as _;
use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{Address, Target};

/// A statement that keeps a server connection busy for 10 ms and hardly any core.
pub const TEN_MS: &str = "SELECT pg_sleep(0.01)";

/// Connects as a user of the target.
pub async fn connect(target: &Target, user: &str) -> Result<PgConnection> {
    let options = PgConnectOptions::new_without_pgpass()
        .username(user)
        .password(&target.password)
        .database(&target.database)
        .ssl_mode(if target.tls { PgSslMode::Require } else { PgSslMode::Disable })
        .disable_statement_logging();
    let options = match &target.address {
        Address::Tcp(address) => options.host(&address.ip().to_string()).port(address.port()),
        Address::Unix(_) => {
            let (folder, port) = target.host_and_port();
            options.socket(folder).port(port.parse()?)
        }
    };
    options.connect().await.with_context(|| format!("connecting as {user} through {}", target.name))
}

/// One connection for each of these users.
pub async fn connect_all(target: &Target, users: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Vec<PgConnection>> {
    let mut connections = Vec::new();
    for user in users {
        connections.push(connect(target, user.as_ref()).await?);
    }
    Ok(connections)
}

/// Runs `statement` on connections picked at random, `width` at once, for a while; how many it were. `{number}` in it stands for
/// a number from 1 to `number_max`.
pub async fn at_random(
    connections: &mut Vec<PgConnection>,
    width: usize,
    length: Duration,
    statement: &str,
    number_max: u32,
) -> Result<u64> {
    let (idle, count) = (RefCell::new(std::mem::take(connections)), Cell::new(0));
    let until = Instant::now() + length;
    let one = || async {
        while Instant::now() < until {
            let mut connection = {
                let mut idle = idle.borrow_mut();
                let place = rand::rng().random_range(0..idle.len());
                idle.swap_remove(place)
            };
            let number = rand::rng().random_range(1..=number_max).to_string();
            execute(&mut connection, &statement.replace("{number}", &number)).await?;
            idle.borrow_mut().push(connection);
            count.set(count.get() + 1);
        }
        Ok::<_, anyhow::Error>(())
    };
    all((0..width).map(|_| one()).collect()).await?;
    *connections = idle.into_inner();
    Ok(count.get())
}

/// Every connection repeats the statement for a while; statements a second.
pub async fn flood(connections: &mut [PgConnection], length: Duration, statement: &str) -> Result<f64> {
    let (begun, count) = (Instant::now(), Cell::new(0_u32));
    let one = async |connection: &mut PgConnection| {
        while begun.elapsed() < length {
            execute(connection, statement).await?;
            count.set(count.get() + 1);
        }
        Ok(())
    };
    all(connections.iter_mut().map(one).collect()).await?;
    Ok(f64::from(count.get()) / begun.elapsed().as_secs_f64())
}

/// One connection sends the statement with pauses of 40 to 100 ms after each answer; the milliseconds that each took.
pub async fn with_pauses(connection: &mut PgConnection, length: Duration, statement: &str) -> Result<Vec<f64>> {
    let (begun, mut taken) = (Instant::now(), Vec::new());
    while begun.elapsed() < length {
        let sent = Instant::now();
        execute(connection, statement).await?;
        taken.push(sent.elapsed().as_secs_f64() * 1000.0);
        let pause = Duration::from_millis(rand::rng().random_range(40..=100));
        tokio::time::sleep(pause).await;
    }
    Ok(taken)
}

async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))).await?;
    Ok(())
}

/// Runs all to the end, or until one fails.
async fn all<F: Future<Output = Result<()>>>(futures: Vec<F>) -> Result<()> {
    futures_util::future::try_join_all(futures).await.map(drop)
}
