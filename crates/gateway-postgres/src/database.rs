//! One database behind the gateway: where it is, who administers it, what it defines, and the secrets
//! of the roles that sessions log in as.

mod failing;

use crate::config::{AdminConfig, PostgresConfig};
use crate::pool::Pool;
use crate::sql::{Catalog, Limits, Views};
use crate::upstream::{
    self, Address, Admin, AdminError, Allowance, Capacity, Connected, Login, RoleSecret, Roles,
    TOO_MANY_CONNECTIONS, UpstreamError, Wanted,
};
use estate::Estate;
use facts::Finding;
use gateway::{Current, Following};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// A session that has just ended may count at the database for a moment longer: who comes next waits so
/// long, each in turn.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// The catalogue as of one moment. `generation` changes with every new snapshot.
pub(crate) struct Snapshot {
    pub(crate) catalog: Catalog,
    pub(crate) generation: u64,
    /// What its views stand for, as the estate of this version declares resources.
    views: std::sync::Mutex<(String, Arc<Views>)>,
}

impl Snapshot {
    fn new(catalog: Catalog, generation: u64) -> Self {
        Self {
            catalog,
            generation,
            views: std::sync::Mutex::default(),
        }
    }

    /// Shared by all who decide by this estate.
    pub(crate) fn views(&self, estate: &Estate) -> Arc<Views> {
        let mut held = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, views) = &mut *held;
        if version != estate.version() {
            estate.version().clone_into(version);
            *views = Arc::default();
        }
        Arc::clone(views)
    }
}

pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) address: Address,
    admin: AdminConfig,
    password: Option<crypto::SecretBytes>,
    refresh_every: Duration,
    pub(crate) roles: Roles,
    wanted: Wanted,
    /// As the database said last.
    capacity: RwLock<Option<Capacity>>,
    snapshot: RwLock<Arc<Snapshot>>,
    /// The administrative connection, and what it has reconciled. One user at a time.
    maintenance: Mutex<Maintenance>,
    /// By identity path.
    secrets: RwLock<HashMap<String, Arc<RoleSecret>>>,
    /// What was found when grants were last made right: it is told once, not at every look.
    told: std::sync::Mutex<Vec<Finding>>,
    /// Why it is not maintained, if so.
    failing: failing::Failing,
    refresh: Notify,
    generations: AtomicU64,
    /// Where statements are read that take long.
    pub(crate) pool: Arc<Pool>,
    pub(crate) limits: Limits,
}

#[derive(Default)]
struct Maintenance {
    connection: Option<Admin>,
    /// Estate index, catalogue generation and limit of roles for which the grants were last right.
    reconciled: Option<(u64, u64, usize)>,
}

impl Database {
    pub(crate) fn new(
        config: &PostgresConfig,
        roles: Roles,
        wanted: Wanted,
        pool: Arc<Pool>,
        limits: Limits,
    ) -> Result<Self, Finding> {
        Ok(Self {
            name: config.database.clone(),
            address: config.upstream.address()?,
            admin: config.admin.clone(),
            password: config.admin.password()?,
            refresh_every: Duration::from_secs(config.catalog_refresh_s),
            roles,
            wanted,
            capacity: RwLock::default(),
            snapshot: RwLock::new(Arc::new(Snapshot::new(Catalog::default(), 0))),
            maintenance: Mutex::default(),
            secrets: RwLock::default(),
            told: std::sync::Mutex::default(),
            failing: failing::Failing::default(),
            refresh: Notify::new(),
            generations: AtomicU64::new(1),
            pool,
            limits,
        })
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many sessions there may be.
    pub(crate) fn allowance(&self) -> Allowance {
        let capacity = *self.capacity.read().unwrap_or_else(PoisonError::into_inner);
        Allowance::of(capacity, self.wanted)
    }

    /// Something may have been defined: look soon.
    pub(crate) fn look_again(&self) {
        self.refresh.notify_one();
    }

    /// Keeps catalogue and grants right for as long as the task is not aborted.
    pub(crate) async fn maintain(self: Arc<Self>, following: Following) {
        let mut estates = following.estate_changed();
        loop {
            estates.mark_unchanged();
            match self.bring_up_to_date(&following).await {
                Ok(()) => self.failing.over(&self.name),
                Err(error) => self.failing.tell(&self.name, &self.finding(&error)),
            }
            tokio::select! {
                changed = estates.changed() => if changed.is_err() { return },
                () = self.refresh.notified() => {}
                () = tokio::time::sleep(self.refresh_every) => {}
            }
        }
    }

    /// Refreshes the catalogue if it has changed, and grants and revokes what the estate now says.
    pub(crate) async fn bring_up_to_date(&self, following: &Following) -> Result<(), AdminError> {
        let mut maintenance = self.maintenance.lock().await;
        // Taken out while it works: after an error, or when whoever waits for this is gone, the connection
        // may be in any state, and is not put back.
        let mut working = std::mem::take(&mut *maintenance);
        self.work(&mut working, following.current().as_deref())
            .await?;
        *maintenance = working;
        Ok(())
    }

    /// Refuses a database whose text the gateway would read otherwise than the server. One that cannot
    /// be reached now is looked at when it can be.
    ///
    /// # Errors
    /// `GATEWAY-ENCODING`.
    pub(crate) async fn check_encoding(&self) -> Result<(), Finding> {
        let mut maintenance = self.maintenance.lock().await;
        match self.connect_admin().await {
            Ok(admin) => {
                maintenance.connection = Some(admin);
                Ok(())
            }
            Err(AdminError::Encoding(encoding)) => Err(Finding::new(
                "GATEWAY-ENCODING",
                format!("the database {} does not keep UTF-8", self.name),
            )
            .expected("server_encoding UTF8")
            .observed(encoding)
            .next("in other encodings names and quotes may read otherwise; copy it into a database in UTF8")),
            Err(error) => {
                self.failing.tell(&self.name, &self.finding(&error));
                Ok(())
            }
        }
    }

    async fn work(
        &self,
        maintenance: &mut Maintenance,
        current: Option<&Current>,
    ) -> Result<(), AdminError> {
        let Maintenance {
            connection,
            reconciled,
        } = maintenance;
        let (admin, anew) = match connection {
            Some(admin) => (admin, false),
            empty => (empty.insert(self.connect_admin().await?), true),
        };
        let (version, _) = upstream::fingerprint(admin).await?;
        let changed = self.snapshot().catalog.version != version;
        if anew || changed {
            self.measure(upstream::capacity(admin).await?);
        }
        if changed {
            self.read_catalog(admin).await?;
        }
        let Some(current) = current else {
            return Ok(());
        };
        let snapshot = self.snapshot();
        let most = self.allowance().role;
        let wanted = (current.index, snapshot.generation, most);
        if *reconciled == Some(wanted) {
            return Ok(());
        }
        let report = upstream::reconcile(
            admin,
            &self.roles,
            &current.estate,
            &snapshot.catalog,
            &snapshot.views(&current.estate),
            most,
            &|identity| self.secret(identity),
        )
        .await?;
        for finding in self.news(report.findings) {
            tracing::warn!(database = self.name, %finding, "finding");
        }
        tracing::info!(
            database = self.name,
            roles = report.roles,
            granted = report.granted,
            revoked = report.revoked,
            "grants are those of the estate"
        );
        *reconciled = Some(wanted);
        // Names are resolved by what roles may use.
        if report.granted + report.revoked > 0 {
            self.read_catalog(admin).await?;
        }
        Ok(())
    }

    async fn read_catalog(&self, admin: &mut Admin) -> Result<(), AdminError> {
        let catalog = upstream::snapshot(admin, &self.name).await?;
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        tracing::info!(database = self.name, generation, "catalogue read");
        *self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(Snapshot::new(catalog, generation));
        Ok(())
    }

    /// Takes note of what the database bears, and says so if that is less than was configured.
    fn measure(&self, capacity: Capacity) {
        let before = self
            .capacity
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(capacity);
        if before == Some(capacity) {
            return;
        }
        let allowance = self.allowance();
        tracing::info!(database = self.name, ?allowance, "sessions that it bears");
        if let Some(finding) = upstream::short(&self.name, capacity, self.wanted) {
            tracing::warn!(database = self.name, %finding, "finding");
        }
    }

    /// Those of `findings` that the last call did not have.
    fn news(&self, findings: Vec<Finding>) -> Vec<Finding> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new = findings.iter().filter(|finding| !told.contains(finding));
        let new = new.cloned().collect();
        *told = findings;
        new
    }

    async fn connect_admin(&self) -> Result<Admin, AdminError> {
        let login = self.password.as_ref().map_or(Login::Peer, Login::Password);
        Admin::connect(&self.address, &self.admin.role, &self.name, &login).await
    }

    fn finding(&self, error: &AdminError) -> Finding {
        failing::finding(&self.name, &self.admin.role, self.password.is_some(), error)
    }

    /// The secret of an identity's role; made on first use, and true that it is new.
    fn secret(&self, identity: &str) -> (Arc<RoleSecret>, bool) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(secret) = secrets.get(identity) {
            return (Arc::clone(secret), false);
        }
        let secret = Arc::new(RoleSecret::random());
        secrets.insert(identity.to_owned(), Arc::clone(&secret));
        (secret, true)
    }

    fn known_secret(&self, identity: &str) -> Option<Arc<RoleSecret>> {
        self.secrets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(identity)
            .cloned()
    }

    /// Logs in as the role of `identity`, by the path that the estate declares.
    pub(crate) async fn log_in(
        &self,
        identity: &str,
        parameters: &[(&str, &str)],
        following: &Following,
    ) -> Result<Connected, LoginError> {
        let role = self.roles.name(identity);
        let mut all = vec![
            ("user", role.as_str()),
            ("database", self.name.as_str()),
            ("client_encoding", "UTF8"),
        ];
        all.extend_from_slice(parameters);
        if let Some(secret) = self.known_secret(identity) {
            match self.connect(&all, &secret).await {
                // Somebody else changed the verifier or dropped the role: make it ours again.
                Err(UpstreamError::Refused { sqlstate, .. }) if sqlstate.starts_with("28") => {
                    self.secrets
                        .write()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(identity);
                }
                other => return other.map_err(LoginError::Upstream),
            }
        }
        self.maintenance.lock().await.reconciled = None;
        self.bring_up_to_date(following)
            .await
            .map_err(LoginError::Admin)?;
        let secret = self.known_secret(identity).ok_or(LoginError::NoRole)?;
        self.connect(&all, &secret)
            .await
            .map_err(LoginError::Upstream)
    }

    async fn connect(
        &self,
        parameters: &[(&str, &str)],
        secret: &RoleSecret,
    ) -> Result<Connected, UpstreamError> {
        for wait in AGAIN {
            match self.address.connect(parameters, &Login::Role(secret)).await {
                Err(UpstreamError::Refused { sqlstate, .. })
                    if sqlstate == TOO_MANY_CONNECTIONS =>
                {
                    tokio::time::sleep(wait).await;
                }
                other => return other,
            }
        }
        self.address.connect(parameters, &Login::Role(secret)).await
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(transparent)]
    Upstream(UpstreamError),
    #[error(transparent)]
    Admin(AdminError),
    #[error("the estate gives this identity no role in the database")]
    NoRole,
}

/// The innermost cause, which the outer message does not repeat.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut inner = error.source();
    while let Some(error) = inner {
        text = error.to_string();
        inner = error.source();
    }
    text
}
