//! Counts requests by route, method and class of status. A request costs one look at its path and three additions: the
//! counters of every route are made when the server starts, so whatever is asked for, there are never more of them.

use super::exposition::Exposition;
use crate::middleware::Side;
use annals_core::Histogram;
use axum::http::{Method, StatusCode};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Ranges of the time to an answer's head, microseconds.
const MICROS: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000,
];
/// The route of single commands, which is told without looking for it.
const COMMAND_ROUTE: &str = "/v1/commands/{aggregate}/{id}/{command}";
/// What paths are counted under that no route has.
const NO_ROUTE: &str = "none";
const METHODS: [&str; 3] = ["GET", "POST", "other"];
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Requests to both APIs of a node.
#[derive(Default)]
pub(crate) struct Requests {
    command: OnceLock<Routes>,
    query: OnceLock<Routes>,
}

struct Routes {
    numbers: matchit::Router<usize>,
    /// One for each route, the last for paths without one.
    counters: Vec<Route>,
    /// Which of them counts single commands.
    command: usize,
}

struct Route {
    template: &'static str,
    methods: [Counters; METHODS.len()],
}

struct Counters {
    classes: [AtomicU64; CLASSES.len()],
    time: Histogram,
}

/// A request under way.
pub(crate) struct Begun {
    route: usize,
    method: usize,
    at: Instant,
}

impl Route {
    fn new(template: &'static str) -> Self {
        let counters = |_| Counters {
            classes: Default::default(),
            time: Histogram::new(MICROS),
        };
        Self {
            template,
            methods: [0, 1, 2].map(counters),
        }
    }
}

impl Requests {
    fn of(&self, side: Side) -> &OnceLock<Routes> {
        match side {
            Side::Command => &self.command,
            Side::Query => &self.query,
        }
    }

    /// Makes the counters of an API's routes.
    pub(crate) fn register(&self, side: Side, templates: &[&'static str]) {
        self.of(side).get_or_init(|| {
            let mut numbers = matchit::Router::new();
            for (number, template) in templates.iter().enumerate() {
                if let Err(error) = numbers.insert(*template, number) {
                    // The router of the API takes the same templates, so that this cannot happen; it would only be counted as no route.
                    tracing::warn!(%error, template, "requests for this route are not told apart");
                }
            }
            let all = templates.iter().copied().chain([NO_ROUTE]);
            let command = templates.iter().position(|template| *template == COMMAND_ROUTE);
            Routes {
                numbers,
                command: command.unwrap_or(templates.len()),
                counters: all.map(Route::new).collect(),
            }
        });
    }

    /// A request came; whether it is one of a single command is known already.
    pub(crate) fn begin(&self, side: Side, method: &Method, path: &str, is_command: bool) -> Begun {
        let routes = self.of(side).get();
        let route = routes.map_or(0, |routes| {
            if is_command {
                return routes.command;
            }
            let found = routes.numbers.at(path);
            found.map_or(routes.counters.len() - 1, |found| *found.value)
        });
        let method = match *method {
            Method::GET => 0,
            Method::POST => 1,
            _ => 2,
        };
        Begun {
            route,
            method,
            at: Instant::now(),
        }
    }

    /// It was answered.
    pub(crate) fn end(&self, side: Side, begun: &Begun, status: StatusCode) {
        let route = self.of(side).get().and_then(|routes| routes.counters.get(begun.route));
        let Some(counters) = route.and_then(|route| route.methods.get(begun.method)) else {
            return;
        };
        let class = usize::from(status.as_u16() / 100).saturating_sub(2);
        if let Some(class) = counters.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        counters.time.add(begun.at.elapsed());
    }

    /// Everything that was ever asked for.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        const TOTAL: &str = "annals_http_requests_total";
        const SECONDS: &str = "annals_http_request_seconds";
        text.counters(
            TOTAL,
            "Requests that were answered, by API, route, method and class of status.",
        );
        self.for_each(|labels, counters| {
            for (class, count) in CLASSES.into_iter().zip(&counters.classes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let [api, route, method] = labels;
                    text.sample(TOTAL, &[api, route, method, ("status", class)], count);
                }
            }
        });
        text.histograms(SECONDS, "Time from a request's head to the head of its answer.");
        self.for_each(|labels, counters| {
            let time = counters.time.snapshot();
            if time.count > 0 {
                text.histogram(SECONDS, &labels, &time);
            }
        });
    }

    fn for_each(&self, mut each: impl FnMut([(&str, &str); 3], &Counters)) {
        for (api, routes) in [("command", &self.command), ("query", &self.query)] {
            for route in routes
                .get()
                .map(|routes| routes.counters.as_slice())
                .unwrap_or_default()
            {
                for (method, counters) in METHODS.into_iter().zip(&route.methods) {
                    each([("api", api), ("route", route.template), ("method", method)], counters);
                }
            }
        }
    }
}
