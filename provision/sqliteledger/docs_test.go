package sqliteledger

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

const docs = "../../docs/ledger.md"

// pumps is the run that the document's answers are from.
func pumps(t *testing.T) string {
	t.Helper()
	at := func(minute int) time.Time { return time.Date(2026, 11, 23, 8, minute, 0, 0, time.UTC) }
	path := filepath.Join(t.TempDir(), "fleet.db")
	l := mustOpen(t, path)
	var add []*provision.DeviceRecord
	for i := range 10 {
		d := new(provision.DeviceRecord)
		d.Seq, d.Name, d.Updated, d.Verdict = int64(i+1), fmt.Sprintf("pump-%04d", i+1), at(20), provision.Waiting
		d.Row = map[string]string{"ThingName": d.Name, "SerialNumber": fmt.Sprintf("%03d", i+1)}
		if i < 6 {
			d.Part, d.Line, d.Attempts = 1, int64(i+1), 1
		}
		switch {
		case i < 4:
			d.Verdict, d.CertificateID = provision.Provisioned, fmt.Sprintf("c%03d", i+1)
		case i < 6:
			d.Verdict, d.Cause, d.Message = provision.Failed, provision.CauseThrottled, "Rate exceeded"
		case i == 6:
			d.Name, d.Verdict, d.Cause = "pump-0001", provision.Failed, provision.CauseDuplicate
			d.Message = "record 1 has the same thing name; give each device one record"
		case i == 7:
			d.Verdict, d.Part, d.Line, d.Attempts = provision.Submitted, 2, 1, 1
		case i == 8:
			d.Verdict, d.Part, d.Line, d.Attempts = provision.Unknown, 2, 2, 1
		}
		add = append(add, d)
	}
	require.NoError(t, l.Apply(t.Context(), provision.Change{
		Run: &provision.RunRecord{ID: "run", Created: at(0), Spooled: true, Total: 10, Input: 10}, Add: add,
		Part: &provision.PartRecord{Number: 1, Attempt: 1, State: provision.PartCollected, Lines: 6, TaskID: "t1", Status: task.Completed,
			Succeeded: 4, Failed: 2, Started: at(15), Ended: at(15).Add(400 * time.Millisecond)},
		Orphans: []*provision.Orphan{
			{CertificateID: "c900", Name: "pump-0005", Why: "made by a line that failed later", Removed: at(30)},
			{CertificateID: "c901", Name: "pump-0006", Why: "made by a line that failed later", Found: at(20)},
		},
	}))
	require.NoError(t, l.Apply(t.Context(), provision.Change{Part: &provision.PartRecord{
		Number: 2, Attempt: 1, State: provision.PartStarted, Lines: 2, TaskID: "t2", Started: at(21),
	}}))
	require.NoError(t, l.Close())
	return path
}

// documented are the queries of the document, each with its answer.
func documented(t *testing.T) (queries, answers []string) {
	t.Helper()
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```sql\n(.*?)```\n```text\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		queries, answers = append(queries, m[1]), append(answers, m[2])
	}
	require.GreaterOrEqual(t, len(queries), 5)
	require.Len(t, queries, strings.Count(string(text), "```sql"), "a query without an answer")
	return queries, answers
}

func TestTheQueriesOfTheDocumentGiveTheirAnswers(t *testing.T) {
	db := plain(t, pumps(t))
	queries, answers := documented(t)
	for i, q := range queries {
		rows, err := db.QueryContext(t.Context(), q)
		require.NoError(t, err, q)
		columns, err := rows.Columns()
		require.NoError(t, err)
		lines := []string{strings.Join(columns, "|")}
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for k := range values {
			into[k] = &values[k]
		}
		for rows.Next() {
			require.NoError(t, rows.Scan(into...))
			cells := make([]string, len(values))
			for k, v := range values {
				cells[k] = cell(v)
			}
			lines = append(lines, strings.Join(cells, "|"))
		}
		require.NoError(t, rows.Err())
		assert.Equal(t, answers[i], strings.Join(lines, "\n")+"\n", q)
	}
}

// cell shows a value as sqlite3 does.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	return fmt.Sprint(v)
}

func TestTheQueriesOfTheDocumentWorkInSQLitesOwnProgram(t *testing.T) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("there is no sqlite3 program here")
	}
	path := pumps(t)
	w := mustOpen(t, path) // the run goes on meanwhile
	queries, answers := documented(t)
	for i, q := range queries {
		out, err := exec.CommandContext(t.Context(), program, "-readonly", "-header", path, q).CombinedOutput()
		require.NoError(t, err, "%s\n%s", q, out)
		assert.Equal(t, answers[i], string(out), q)
	}
	out, err := exec.CommandContext(t.Context(), program, "-readonly", path, "PRAGMA integrity_check; PRAGMA journal_mode").CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "ok\nwal\n", string(out))
	out, err = exec.CommandContext(t.Context(), program, "-readonly", path+".lock", "SELECT pid FROM writer").CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintln(os.Getpid()), string(out))
	require.NoError(t, w.Apply(t.Context(), provision.Change{Part: &provision.PartRecord{Number: 3}}))
}

func TestTheDocumentNamesEveryTableViewAndColumn(t *testing.T) {
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	db := plain(t, pumps(t))
	list := func(query string, args ...any) []string {
		rows, err := db.QueryContext(t.Context(), query, args...)
		require.NoError(t, err)
		defer rows.Close()
		var out []string
		for rows.Next() {
			var s string
			require.NoError(t, rows.Scan(&s))
			out = append(out, s)
		}
		require.NoError(t, rows.Err())
		return out
	}
	first := regexp.MustCompile(`(?m)^\| (\w+) \|`)
	section := func(heading string) []string {
		_, rest, ok := strings.Cut(string(text), "\n"+heading+"\n")
		require.True(t, ok, "the document has no section %s", heading)
		rest, _, _ = strings.Cut(rest, "\n#")
		var names []string
		for _, m := range first.FindAllStringSubmatch(rest, -1)[1:] { // the first is the head of the table
			names = append(names, m[1])
		}
		return names
	}
	for _, table := range list("SELECT name FROM sqlite_schema WHERE type = 'table'") {
		assert.Equal(t, list("SELECT name FROM pragma_table_info(?)", table), section("### "+table), "columns of "+table)
	}
	assert.ElementsMatch(t, list("SELECT name FROM sqlite_schema WHERE type = 'view'"), section("## Views"))
	versions := fmt.Sprintf("`PRAGMA application_id` is %d (`IoTf`), `PRAGMA user_version` the version of the tables: %d.", ledgerFile.ApplicationID, len(ledgerFile.Steps))
	assert.Contains(t, string(text), versions)
}

func TestQueriesUseTheirIndexes(t *testing.T) {
	path := pumps(t)
	db := plain(t, path)
	plan := func(query string, args ...any) string {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
		require.NoError(t, err)
		defer rows.Close()
		var out []string
		for rows.Next() {
			var (
				a, b, c int
				detail  string
			)
			require.NoError(t, rows.Scan(&a, &b, &c, &detail))
			out = append(out, detail)
		}
		require.NoError(t, rows.Err())
		return strings.Join(out, "\n")
	}
	for _, c := range []struct {
		filter provision.DeviceFilter
		index  string
	}{
		{provision.DeviceFilter{}, "USING INTEGER PRIMARY KEY"},
		{provision.DeviceFilter{Name: "x", Part: 2, Verdicts: []provision.Verdict{provision.Failed}}, "devices_by_name"},
		{provision.DeviceFilter{Part: 2, Verdicts: []provision.Verdict{provision.Failed}}, "devices_by_part"},
		{provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed}}, "devices_by_verdict (verdict=? AND rowid>?)"},
		{provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed, provision.Unknown}}, "devices_by_verdict (verdict=? AND rowid>?)"},
	} {
		query, args := pageQuery(c.filter, pageRows)
		p := plan(query, args...)
		assert.Contains(t, p, c.index, "%+v", c.filter)
		if len(c.filter.Verdicts) < 2 {
			assert.NotContains(t, p, "TEMP B-TREE FOR ORDER BY", "%+v", c.filter)
		}
	}
	for column, index := range map[string]string{
		"name": "devices_by_name", "match": "devices_by_match", "certificate_id": "devices_by_certificate", "part": "devices_by_part",
		"verdict": "devices_by_verdict", "cause": "devices_by_cause",
	} {
		assert.Contains(t, plan("SELECT seq FROM devices WHERE "+column+" IN (?, ?)", "a", "b"), index)
	}
}
