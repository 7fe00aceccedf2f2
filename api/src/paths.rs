//! The routes of an API: what answers them, and their templates, under which requests are counted.

use crate::metrics::Requests;
use crate::middleware::Side;
use crate::state::Shared;
use axum::Router;
use axum::routing::MethodRouter;

/// A router under construction that remembers its templates.
pub(crate) struct Paths {
    router: Router<Shared>,
    templates: Vec<&'static str>,
}

impl Paths {
    pub(crate) fn new() -> Self {
        Self {
            router: Router::new(),
            templates: Vec::new(),
        }
    }

    /// With a route.
    pub(crate) fn route(mut self, template: &'static str, methods: MethodRouter<Shared>) -> Self {
        self.router = self.router.route(template, methods);
        self.templates.push(template);
        self
    }

    /// The router. Its requests are counted from now on.
    pub(crate) fn router(self, side: Side, requests: &Requests) -> Router<Shared> {
        requests.register(side, &self.templates);
        self.router
    }
}
