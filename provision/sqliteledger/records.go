package sqliteledger

import (
	"time"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// inputColumns is how many of deviceColumns hold what a device came with: its number and what provision.Change.InputStays
// leaves as it is.
const inputColumns = 6

// The columns of the tables, each line a field. A field that is added to a record needs a line here and a new version
// of the schema; ledgertest finds one that was forgotten.
var (
	runColumns = []column[provision.RunRecord]{
		text("id", func(r *provision.RunRecord) *string { return &r.ID }),
		moment("created", func(r *provision.RunRecord) *time.Time { return &r.Created }),
		text("partition", func(r *provision.RunRecord) *string { return &r.Identity.Partition }),
		text("account", func(r *provision.RunRecord) *string { return &r.Identity.Account }),
		text("region", func(r *provision.RunRecord) *string { return &r.Identity.Region }),
		yesNo("fake", func(r *provision.RunRecord) *bool { return &r.Identity.Fake }),
		text("template_sha256", func(r *provision.RunRecord) *string { return &r.TemplateSHA256 }),
		text("role_arn", func(r *provision.RunRecord) *string { return &r.RoleARN }),
		yesNo("spooled", func(r *provision.RunRecord) *bool { return &r.Spooled }),
		number("total", func(r *provision.RunRecord) *int64 { return &r.Total }),
		number("ahead", func(r *provision.RunRecord) *int64 { return &r.Ahead }),
		number("input", func(r *provision.RunRecord) *int64 { return &r.Input }),
		moment("finished", func(r *provision.RunRecord) *time.Time { return &r.Finished }),
		moment("orphans_looked", func(r *provision.RunRecord) *time.Time { return &r.OrphansLooked }),
		text("preflight_sha256", func(r *provision.RunRecord) *string { return &r.PreflightSHA256 }),
		text("sites_sha256", func(r *provision.RunRecord) *string { return &r.SitesSHA256 }),
	}

	partColumns = []column[provision.PartRecord]{
		number("number", func(p *provision.PartRecord) *int { return &p.Number }),
		number("attempt", func(p *provision.PartRecord) *int { return &p.Attempt }),
		text("state", func(p *provision.PartRecord) *provision.PartState { return &p.State }),
		yesNo("adopted", func(p *provision.PartRecord) *bool { return &p.Adopted }),
		number("lines", func(p *provision.PartRecord) *int { return &p.Lines }),
		number("bytes", func(p *provision.PartRecord) *int64 { return &p.Bytes }),
		text("sha256", func(p *provision.PartRecord) *string { return &p.SHA256 }),
		text("file", func(p *provision.PartRecord) *string { return &p.File }),
		text("bucket", func(p *provision.PartRecord) *string { return &p.Bucket }),
		text("key", func(p *provision.PartRecord) *string { return &p.Key }),
		text("task_id", func(p *provision.PartRecord) *task.ID { return &p.TaskID }),
		text("status", func(p *provision.PartRecord) *task.Status { return &p.Status }),
		text("message", func(p *provision.PartRecord) *string { return &p.Message }),
		number("succeeded", func(p *provision.PartRecord) *int { return &p.Succeeded }),
		number("failed", func(p *provision.PartRecord) *int { return &p.Failed }),
		moment("task_created", func(p *provision.PartRecord) *time.Time { return &p.TaskCreated }),
		text("discrepancy", func(p *provision.PartRecord) *string { return &p.Discrepancy }),
		moment("written", func(p *provision.PartRecord) *time.Time { return &p.Written }),
		moment("uploaded", func(p *provision.PartRecord) *time.Time { return &p.Uploaded }),
		moment("started", func(p *provision.PartRecord) *time.Time { return &p.Started }),
		moment("ended", func(p *provision.PartRecord) *time.Time { return &p.Ended }),
		moment("collected", func(p *provision.PartRecord) *time.Time { return &p.Collected }),
		number("credentials_took_ns", func(p *provision.PartRecord) *time.Duration { return &p.CredentialsTook }),
		moment("looked", func(p *provision.PartRecord) *time.Time { return &p.Looked }),
	}

	deviceColumns = []column[provision.DeviceRecord]{
		number("seq", func(d *provision.DeviceRecord) *int64 { return &d.Seq }),
		text("name", func(d *provision.DeviceRecord) *string { return &d.Name }),
		text("source", func(d *provision.DeviceRecord) *string { return &d.Source }),
		asJSON("row", func(d *provision.DeviceRecord) *map[string]string { return &d.Row }),
		asJSON("original", func(d *provision.DeviceRecord) *map[string]string { return &d.Original }),
		asJSON("meta", func(d *provision.DeviceRecord) *map[string]string { return &d.Meta }),
		text("verdict", func(d *provision.DeviceRecord) *provision.Verdict { return &d.Verdict }),
		text("cause", func(d *provision.DeviceRecord) *provision.Cause { return &d.Cause }),
		number("attempts", func(d *provision.DeviceRecord) *int { return &d.Attempts }),
		numberOrNone("part", func(d *provision.DeviceRecord) *int { return &d.Part }),
		numberOrNone("line", func(d *provision.DeviceRecord) *int64 { return &d.Line }),
		moment("updated", func(d *provision.DeviceRecord) *time.Time { return &d.Updated }),
		text("task_id", func(d *provision.DeviceRecord) *string { return &d.TaskID }),
		text("certificate_id", func(d *provision.DeviceRecord) *string { return &d.CertificateID }),
		text("match", func(d *provision.DeviceRecord) *provision.Match { return &d.Match }),
		text("message", func(d *provision.DeviceRecord) *string { return &d.Message }),
		text("thing_arn", func(d *provision.DeviceRecord) *string { return &d.ThingARN }),
		text("certificate_arn", func(d *provision.DeviceRecord) *string { return &d.CertificateARN }),
		asJSON("policies", func(d *provision.DeviceRecord) *[]string { return &d.Policies }),
		text("certificate_pem", func(d *provision.DeviceRecord) *string { return &d.CertificatePEM }),
		yesNo("thing_existed", func(d *provision.DeviceRecord) *bool { return &d.ThingExisted }),
		asJSON("existing", func(d *provision.DeviceRecord) *[]provision.ExistingCertificate { return &d.Existing }),
	}

	orphanColumns = []column[provision.Orphan]{
		text("certificate_id", func(o *provision.Orphan) *string { return &o.CertificateID }),
		text("certificate_arn", func(o *provision.Orphan) *string { return &o.CertificateARN }),
		numberOrNone("seq", func(o *provision.Orphan) *int64 { return &o.Seq }),
		text("name", func(o *provision.Orphan) *string { return &o.Name }),
		text("why", func(o *provision.Orphan) *string { return &o.Why }),
		moment("found", func(o *provision.Orphan) *time.Time { return &o.Found }),
		moment("removed", func(o *provision.Orphan) *time.Time { return &o.Removed }),
	}
)
