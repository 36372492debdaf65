//! What the simulator knows while it runs: the tenants with their blobs and subscriptions, the
//! clock, the faults, and the counts.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    assertion::Used,
    attempts::Attempts,
    catalogue::{Blob, Cache, Content, Feed},
    chance::{mix, part},
    clock::Clock,
    config::{AppConfig, Config, ExplicitBlob, Generated, Records, TenantConfig},
    faults::Faults,
    folder,
    generate::directory::Directory,
    graph_audit::GraphAudit,
    graph_mail::SentMail,
    hec::Hec,
    jwt::Signer,
    recipe::{Recipe, content_id},
    search::Search,
    stats::Counts,
    subscriptions::Subscriptions,
    vault::Vault,
    webhook::Notification,
};

/// Locks, whatever happened to the thread that held the lock before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) url: String,
    pub(crate) foreign_url: String,
    pub(crate) clock: Clock,
    pub(crate) signer: Signer,
    pub(crate) attempts: Attempts,
    pub(crate) counts: Counts,
    pub(crate) cache: Cache,
    pub(crate) hec: Hec,
    pub(crate) search: Search,
    pub(crate) graph_audit: GraphAudit,
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) mails: Mutex<Vec<SentMail>>,
    pub(crate) used: Used,
    pub(crate) vault: Vault,
    faults: RwLock<Arc<Faults>>,
}

/// One tenant.
pub(crate) struct Tenant {
    pub(crate) config: TenantConfig,
    pub(crate) id: Uuid,
    pub(crate) apps: Vec<AppConfig>,
    pub(crate) audit: AtomicBool,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) feed: RwLock<Feed>,
    pub(crate) minute: Mutex<(i64, u32)>,
    /// Requests in a minute, in place of the configuration's limit.
    pub(crate) limit: Mutex<Option<u32>>,
    pub(crate) notifications: Mutex<VecDeque<Notification>>,
    directory: Arc<Directory>,
    batches: AtomicU64,
}

impl State {
    /// Builds the state; reads folders and makes the catalogues.
    pub(crate) fn new(config: Config, url: String, foreign_url: String) -> io::Result<Self> {
        let clock = Clock::default();
        let anchor = config.anchor.unwrap_or_else(|| clock.now());
        let tenants: Vec<Tenant> = config
            .tenants
            .iter()
            .map(|tenant| Tenant::new(&config, tenant, anchor))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            signer: Signer::new(config.seed),
            attempts: Attempts::default(),
            counts: Counts::default(),
            cache: Cache::new(config.cache_bytes),
            hec: Hec::default(),
            search: Search::default(),
            graph_audit: GraphAudit::default(),
            faults: RwLock::new(Arc::new(config.faults.clone())),
            tenants,
            mails: Mutex::default(),
            used: Used::default(),
            vault: Vault::new(&config.vault),
            clock,
            url,
            foreign_url,
            config,
        })
    }

    /// The faults of this moment.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Other faults from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
    }

    /// The tenant with this id.
    pub(crate) fn tenant(&self, id: Uuid) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.id == id)
    }

    /// The tenant with this id or verified domain.
    pub(crate) fn tenant_named(&self, name: &str) -> Option<&Tenant> {
        let id = Uuid::parse_str(name).ok();
        self.tenants
            .iter()
            .find(|tenant| Some(tenant.id) == id || tenant.config.domain.eq_ignore_ascii_case(name))
    }

    /// Finds a blob of any tenant.
    pub(crate) fn blob(&self, id: &str) -> Option<(&Tenant, Arc<Blob>)> {
        self.tenants
            .iter()
            .find_map(|tenant| Some((tenant, tenant.find(id)?)))
    }

    fn life(&self) -> TimeDelta {
        TimeDelta::days(i64::from(self.config.expiration_days))
    }

    /// Adds a blob that a test wrote out; it appears at once unless it says otherwise.
    pub(crate) fn add_blob(&self, tenant: &Tenant, blob: ExplicitBlob) -> String {
        let now = self.clock.now();
        let number = tenant.batches.fetch_add(1, Ordering::Relaxed);
        let blob = explicit(self.config.seed, number, blob, now, self.life());
        let id = blob.id.to_string();
        tenant.add([Arc::new(blob)]);
        id
    }

    /// Makes up more records, in blobs that appear at once.
    pub(crate) fn add_events(&self, tenant: &Tenant, generated: Generated) -> Vec<String> {
        let batch = tenant.batches.fetch_add(1, Ordering::Relaxed);
        let recipe = tenant.recipe(
            (self.config.seed, batch),
            generated,
            &self.faults(),
            self.clock.now(),
        );
        let blobs = bake(&Arc::new(recipe), self.life());
        let ids = blobs.iter().map(|blob| blob.id.to_string()).collect();
        tenant.add(blobs);
        ids
    }

    /// Brings a blob's records again under a new content id.
    pub(crate) fn redeliver(&self, tenant: &Tenant, blob: &Arc<Blob>) -> String {
        let number = tenant.batches.fetch_add(1, Ordering::Relaxed);
        let again = again(blob, self.clock.now(), number, self.life());
        let id = again.id.to_string();
        tenant.add([Arc::new(again)]);
        id
    }
}

impl Tenant {
    fn new(config: &Config, tenant: &TenantConfig, anchor: DateTime<Utc>) -> io::Result<Self> {
        let id = Uuid::parse_str(&tenant.id).map_err(|_| {
            io::Error::new(
                ErrorKind::InvalidInput,
                format!("tenant id {:?} is not a GUID", tenant.id),
            )
        })?;
        let mut apps = vec![AppConfig {
            client_id: tenant.client_id.clone(),
            client_secret: tenant.client_secret.clone(),
            roles: tenant.roles.clone(),
        }];
        apps.extend(tenant.other_apps.iter().cloned());
        let subscriptions = Subscriptions::default();
        if tenant.subscribed {
            for app in &apps {
                subscriptions.enable_all(&app.client_id);
            }
        }
        let made = Self {
            directory: Arc::new(Directory::new(config.seed, &id.to_string(), &tenant.domain)),
            config: tenant.clone(),
            id,
            apps,
            audit: AtomicBool::new(tenant.audit),
            subscriptions,
            feed: RwLock::default(),
            minute: Mutex::default(),
            limit: Mutex::default(),
            notifications: Mutex::default(),
            batches: AtomicU64::new(1),
        };
        let life = TimeDelta::days(i64::from(config.expiration_days));
        made.add(made.first_blobs(config, anchor, life)?);
        Ok(made)
    }

    fn first_blobs(
        &self,
        config: &Config,
        anchor: DateTime<Utc>,
        life: TimeDelta,
    ) -> io::Result<Vec<Arc<Blob>>> {
        let given = |blobs: Vec<ExplicitBlob>, default: DateTime<Utc>| {
            blobs
                .into_iter()
                .enumerate()
                .map(|(number, blob)| {
                    Arc::new(explicit(config.seed, number as u64, blob, default, life))
                })
                .collect()
        };
        Ok(match &self.config.records {
            Records::Generated(generated) => {
                let recipe =
                    self.recipe((config.seed, 0), generated.clone(), &config.faults, anchor);
                bake(&Arc::new(recipe), life)
            }
            Records::Folder(folder) => given(folder::read(folder, anchor)?, anchor),
            Records::Explicit(blobs) => given(blobs.clone(), anchor - TimeDelta::hours(1)),
        })
    }

    fn recipe(
        &self,
        batch: (u64, u64),
        generated: Generated,
        faults: &Faults,
        anchor: DateTime<Utc>,
    ) -> Recipe {
        let tenant = self.id.to_string();
        let domain = &self.config.domain;
        let what = (generated, faults.records.clone());
        Recipe::new(
            batch,
            (&tenant, domain),
            Arc::clone(&self.directory),
            what,
            anchor,
        )
    }

    fn add(&self, blobs: impl IntoIterator<Item = Arc<Blob>>) {
        self.feed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .add(blobs);
    }

    /// The blob with this content id.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Blob>> {
        self.feed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .find(id)
            .cloned()
    }

    /// The blobs that were added after the first `known`.
    pub(crate) fn blobs_after(&self, known: usize) -> Vec<Arc<Blob>> {
        let feed = self.feed.read().unwrap_or_else(PoisonError::into_inner);
        feed.all()[known..].to_vec()
    }

    /// Every blob there is or will be.
    pub(crate) fn blobs(&self) -> Vec<Arc<Blob>> {
        self.feed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .all()
            .to_vec()
    }
}

fn explicit(
    seed: u64,
    number: u64,
    blob: ExplicitBlob,
    default: DateTime<Utc>,
    life: TimeDelta,
) -> Blob {
    let created = blob.created.unwrap_or(default);
    let id = content_id(
        blob.content_type,
        created,
        mix(&[seed, part("explicit"), number]),
        number,
    );
    Blob::explicit(id, blob, default, life)
}

fn again(blob: &Arc<Blob>, created: DateTime<Utc>, number: u64, life: TimeDelta) -> Blob {
    let id = content_id(
        blob.content_type,
        created,
        mix(&[part(&blob.id), number]),
        number,
    );
    Blob::new(
        id,
        blob.content_type,
        (created, created),
        life,
        Content::Again(Arc::clone(blob)),
    )
}

/// All blobs of a recipe, those that come twice at the end.
fn bake(recipe: &Arc<Recipe>, life: TimeDelta) -> Vec<Arc<Blob>> {
    let mut blobs: Vec<Arc<Blob>> = (0..recipe.blobs())
        .map(|number| {
            let outline = recipe.outline(number);
            let times = (outline.created, outline.visible_at);
            let content = Content::Generated(Arc::clone(recipe), number);
            Arc::new(Blob::new(
                recipe.content_id(number),
                outline.content_type,
                times,
                life,
                content,
            ))
        })
        .collect();
    for number in 0..blobs.len() {
        if let Some(created) = recipe.redelivered_at(number as u64) {
            blobs.push(Arc::new(again(
                &blobs[number],
                created,
                number as u64,
                life,
            )));
        }
    }
    blobs
}

/// Compresses every blob that fits into the cache, on all processors.
pub(crate) fn prepare(state: &State) {
    let blobs: Vec<Arc<Blob>> = state.tenants.iter().flat_map(Tenant::blobs).collect();
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    if !blob.is_giant() {
                        let _body: Bytes = blob.gzip(&state.cache);
                    }
                }
            });
        }
    });
}
