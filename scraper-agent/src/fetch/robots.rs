//! robots.txt by RFC 9309: once per host and day, 4xx allows all, unreachable or 5xx allows nothing for now: it is
//! asked for again a few times in a run, and its pages are left for a later one. A line that cannot be understood costs
//! itself, not the host.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use texting_robots::Robot;
use tokio::sync::OnceCell;
use url::Url;

/// Redirects followed for a robots.txt (RFC 9309, 2.3.1.2).
pub const REDIRECTS_MAX: usize = 5;
/// Bytes of a robots.txt that are read (RFC 9309, 2.5).
const BYTES_MAX: usize = 500 << 10;
/// An answer older than this is asked for again (RFC 9309, 2.4).
pub const KNOWN_FOR: TimeDelta = TimeDelta::hours(24);
/// "Unknown" is asked again sooner.
const UNKNOWN_FOR: TimeDelta = TimeDelta::seconds(60);
/// Fetches of one host's robots.txt in a run that end as "unknown" at most.
const UNKNOWN_TRIES_MAX: u32 = 3;

/// What a host says.
pub enum RobotsAnswer {
    /// By its rules.
    Rules(Box<Rules>),
    /// There is none.
    AllowAll,
    /// It could not be read, and why.
    Unknown(String),
}

/// The rules for one agent.
pub struct Rules(Robot);

impl Rules {
    /// Reads a file; what cannot be understood of it is left out.
    ///
    /// # Errors
    /// Not even the single lines can be told apart.
    pub fn parse(agent: &str, text: &[u8]) -> Result<Self, String> {
        let text = &text[..text.len().min(BYTES_MAX)];
        // Rules are matched by the product name, not by the whole header.
        let product = agent.split('/').next().unwrap_or(agent);
        if let Some(robot) = robot(product, text) {
            return Ok(Self(robot));
        }
        let lines = text.split(|byte| matches!(byte, b'\n' | b'\r' | 0));
        let sound: Vec<&[u8]> = lines.filter(|line| is_sound(line)).collect();
        robot(product, &sound.join(&b'\n')).map(Self).ok_or_else(|| "it cannot be understood".to_owned())
    }

    /// Whether an address may be read. One that the rules cannot be matched with may not.
    pub fn allowed(&self, url: &Url) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.0.allowed(url.as_str()))).unwrap_or(false)
    }

    /// Seconds between two requests, as the file says them.
    pub fn delay(&self) -> Option<f32> {
        self.0.delay
    }
}

/// The library fails, or panics, over a whole file for one odd line.
fn robot(product: &str, text: &[u8]) -> Option<Robot> {
    catch_unwind(|| Robot::new(product, text).ok()).ok().flatten()
}

/// Whether the library can read a line that is alone.
fn is_sound(line: &[u8]) -> bool {
    robot("a", &[b"User-agent: a\n", line, b"\n"].concat()).is_some()
}

/// What is known of one host's robots.txt.
#[derive(Clone)]
pub struct Learned {
    /// When it came.
    pub at: DateTime<Utc>,
    /// What it says.
    pub answer: Arc<RobotsAnswer>,
    /// The file itself, where there is one.
    pub text: Option<Arc<[u8]>>,
}

impl Learned {
    /// Reads a file, or takes in that there is none. Long files take a moment: not for an async thread.
    pub fn of(agent: &str, text: Option<Arc<[u8]>>, at: DateTime<Utc>) -> Self {
        let answer = match text.as_deref().map(|text| Rules::parse(agent, text)) {
            Some(Ok(rules)) => RobotsAnswer::Rules(Box::new(rules)),
            Some(Err(why)) => RobotsAnswer::Unknown(why),
            None => RobotsAnswer::AllowAll,
        };
        Self { at, answer: Arc::new(answer), text }
    }

    fn unknown(why: String) -> Self {
        Self { at: Utc::now(), answer: Arc::new(RobotsAnswer::Unknown(why)), text: None }
    }

    fn is_unknown(&self) -> bool {
        matches!(*self.answer, RobotsAnswer::Unknown(_))
    }
}

/// One host's robots.txt, asked for when it is needed.
pub struct HostRobots {
    state: Mutex<State>,
    unknown_for: TimeDelta,
}

#[derive(Default)]
struct State {
    /// Empty where it is to be asked for (again).
    known: Arc<OnceCell<Learned>>,
    /// Answers before `known` that were "unknown", in this run.
    unknown_tries: u32,
}

impl Default for HostRobots {
    fn default() -> Self {
        Self { state: Mutex::default(), unknown_for: UNKNOWN_FOR }
    }
}

impl HostRobots {
    /// Goes on with what an earlier process learned.
    pub fn resume(&self, learned: Learned) {
        self.lock().known = Arc::new(OnceCell::new_with(Some(learned)));
    }

    /// What was learned, if anything but "unknown".
    pub fn learned(&self) -> Option<Learned> {
        self.lock().known.get().filter(|learned| !learned.is_unknown()).cloned()
    }

    /// A new run may ask for what an earlier one could not get.
    pub fn forget_unknown(&self) {
        let mut state = self.lock();
        state.unknown_tries = 0;
        if state.known.get().is_some_and(Learned::is_unknown) {
            state.known = Arc::default();
        }
    }

    /// The host's answer, and whether it is news; `fetch` brings the file once, however many ask at the same time.
    /// `Ok(None)` means 4xx.
    pub async fn answer<F, Fut>(&self, agent: &str, url: &Url, fetch: F) -> (Arc<RobotsAnswer>, bool)
    where
        F: FnOnce(Url) -> Fut,
        Fut: Future<Output = Result<Option<Vec<u8>>, String>>,
    {
        let known = self.known();
        let mut is_news = false;
        let learned = known.get_or_init(|| async {
            is_news = true;
            let Ok(robots_url) = url.join("/robots.txt") else {
                return Learned::unknown(format!("{url} has no robots.txt address"));
            };
            match fetch(robots_url).await {
                Ok(text) => {
                    let agent = agent.to_owned();
                    let read = move || Learned::of(&agent, text.map(Into::into), Utc::now());
                    let read = tokio::task::spawn_blocking(read).await;
                    read.unwrap_or_else(|error| Learned::unknown(error.to_string()))
                }
                Err(why) => Learned::unknown(why),
            }
        });
        let answer = Arc::clone(&learned.await.answer);
        (answer, is_news)
    }

    fn known(&self) -> Arc<OnceCell<Learned>> {
        let mut state = self.lock();
        if let Some(learned) = state.known.get() {
            let is_unknown = learned.is_unknown();
            let known_for = if is_unknown { self.unknown_for } else { KNOWN_FOR };
            let is_stale = Utc::now() - learned.at >= known_for;
            if is_stale && (!is_unknown || state.unknown_tries + 1 < UNKNOWN_TRIES_MAX) {
                state.unknown_tries += u32::from(is_unknown);
                state.known = Arc::default();
            }
        }
        Arc::clone(&state.known)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "quarry-agent/1 (x)";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[tokio::test]
    async fn one_fetch_serves_all_and_each_answer_means_what_the_rfc_says() {
        let page = url("http://a.example/jobs/1");
        let text =
            b"User-agent: *\nDisallow: /\n\nUser-agent: quarry-agent\nDisallow: /private\nCrawl-delay: 3\n"
                .to_vec();
        let host = HostRobots::default();
        let (answer, is_news) = host.answer(AGENT, &page, |_| async { Ok(Some(text)) }).await;
        let RobotsAnswer::Rules(rules) = &*answer else { panic!("no rules") };
        assert!(rules.allowed(&page) && is_news);
        assert!(!rules.allowed(&url("http://a.example/private/x")));
        assert_eq!(rules.delay(), Some(3.0));
        let (again, is_news) = host.answer(AGENT, &page, |_| async { panic!("fetched twice") }).await;
        assert!(matches!(&*again, RobotsAnswer::Rules(_)) && !is_news);

        let (missing, _) = HostRobots::default().answer(AGENT, &page, |_| async { Ok(None) }).await;
        assert!(matches!(&*missing, RobotsAnswer::AllowAll));
        let down = |_| async { Err("answered 500".to_owned()) };
        let (answer, _) = HostRobots::default().answer(AGENT, &page, down).await;
        assert!(matches!(&*answer, RobotsAnswer::Unknown(why) if why.contains("500")));
    }

    #[test]
    fn an_odd_line_costs_itself_and_not_the_host() {
        let long = format!("Disallow: /{}$\n", "a*".repeat(20_000));
        let odd: [&[u8]; 7] = [
            long.as_bytes(),
            b"Disallow: /\xff\xfe*$\n",
            b"Disal\0low: /\0$*$\n",
            b"Crawl-delay: NaN\nCrawl-delay: 1e400\nAllow\n",
            b"User-agent\nUser-agent:\nDisallow: (?<![\n",
            b"\r\r\n:::: #\n\xef\xbb\xbf\n",
            &[b':'; BYTES_MAX / 2],
        ];
        for line in odd {
            let mut text = b"User-agent: *\nDisallow: /private\n".to_vec();
            text.extend_from_slice(line);
            text.extend_from_slice(b"\nUser-agent: *\nDisallow: /secret\n");
            let shown = String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned();
            let rules = Rules::parse(AGENT, &text).unwrap_or_else(|why| panic!("{shown}: {why}"));
            assert!(rules.allowed(&url("http://a.example/jobs/1")), "{shown}");
            assert!(!rules.allowed(&url("http://a.example/private/1")), "{shown}");
            assert!(!rules.allowed(&url("http://a.example/secret/1")), "{shown}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_fail(text in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..400)) {
            let text = [b"User-agent: *\nDisallow: /$".as_slice(), &text].concat();
            let rules = Rules::parse(AGENT, &text).unwrap();
            rules.allowed(&url("http://a.example/jobs/1?a=%F0*$"));
        }
    }

    #[tokio::test]
    async fn unknown_is_asked_again_a_bounded_number_of_times_in_a_run() {
        let ask = async |host: &HostRobots, failing: u32| {
            let mut fetched = 0;
            for _ in 0..10 {
                let now = fetched;
                let fetch = async |_| {
                    fetched += 1;
                    if now < failing { Err("answered 500".to_owned()) } else { Ok(None) }
                };
                let (answer, _) = host.answer(AGENT, &url("http://a.example/"), fetch).await;
                if matches!(&*answer, RobotsAnswer::AllowAll) {
                    return (fetched, true);
                }
            }
            (fetched, false)
        };
        let host = || HostRobots { unknown_for: TimeDelta::zero(), ..HostRobots::default() };
        assert_eq!(ask(&host(), 2).await, (3, true));
        let away = host();
        assert_eq!(ask(&away, 99).await, (UNKNOWN_TRIES_MAX, false));
        assert!(away.learned().is_none());
        away.forget_unknown();
        assert_eq!(ask(&away, 99).await, (UNKNOWN_TRIES_MAX, false), "the next run asks again");
    }
}
