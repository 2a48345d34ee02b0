package fleet

import (
	"context"
	"fmt"
	"sync"

	"github.com/seed1ff6f450/iotfleet/task"
)

// claims knows which site works where, so that no second one works there: AWS runs one registration task for each
// account and region, and things of one account and region share their names.
type claims struct {
	mu    sync.Mutex
	sites map[task.Identity]string
}

// watch makes a backend claim its identity for the site whenever it is asked for it. A run asks before it does anything
// else. A backend without an identity is left alone.
func (c *claims) watch(site string, b task.Backend) task.Backend {
	who, ok := task.As[task.Identifier](b)
	if !ok {
		return b
	}
	return &claiming{Backend: b, who: who, site: site, claims: c}
}

// claiming is a backend whose identity is claimed for a site.
type claiming struct {
	task.Backend
	who    task.Identifier
	site   string
	claims *claims
}

// Unwrap returns the backend to task.As, which finds its other abilities.
func (c *claiming) Unwrap() task.Backend { return c.Backend }

// Identity asks the backend, and refuses an account and region that another site has.
func (c *claiming) Identity(ctx context.Context) (*task.Identity, error) {
	id, err := c.who.Identity(ctx)
	if err != nil {
		return nil, err
	}
	c.claims.mu.Lock()
	defer c.claims.mu.Unlock()
	if owner, ok := c.claims.sites[*id]; ok && owner != c.site {
		return nil, fmt.Errorf("%w: account %s, region %s is site %q's; give this site a backend elsewhere, or let the sites take turns (Options.TakeTurns)",
			ErrSameAccount, id.Account, id.Region, owner)
	}
	if c.claims.sites == nil {
		c.claims.sites = map[task.Identity]string{}
	}
	c.claims.sites[*id] = c.site
	return id, nil
}
