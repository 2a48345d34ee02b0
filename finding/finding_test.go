package finding_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/finding"
)

func TestAFindingIsWrittenWithItsPlaceMessageAndRule(t *testing.T) {
	for want, f := range map[string]finding.Finding{
		`row 3 (line 4, column 2): parameter "CSR": is empty [csr]`:           {Rule: "csr", Row: 3, Line: 4, Column: 2, Offset: 40, Parameter: "CSR", Message: "is empty"},
		`row 3 (line 4): is empty [csr]`:                                      {Rule: "csr", Row: 3, Line: 4, Message: "is empty"},
		`line 4, column 2: is empty [csr]`:                                    {Rule: "csr", Row: 4, Line: 4, Column: 2, Message: "is empty"},
		`line 1: is empty [csr]`:                                              {Rule: "csr", Line: 1, Message: "is empty"},
		`row 2: is empty [csr]`:                                               {Rule: "csr", Row: 2, Message: "is empty"},
		`line 9, column 7: /Resources/policy: no connect [policy-no-connect]`: {Rule: "policy-no-connect", Line: 9, Column: 7, Pointer: "/Resources/policy", Message: "no connect"},
		`parameter "CSR": /Resources/c: is empty [csr]`:                       {Rule: "csr", Parameter: "CSR", Pointer: "/Resources/c", Message: "is empty"},
		`"lamp": there is no such thing type [thing-type]`:                    {Rule: "thing-type", Resource: "lamp", Message: "there is no such thing type"},
		`parameter [private key]: a key in the header [private-key]`:          {Rule: "private-key", Parameter: "-----BEGIN PRIVATE KEY-----", Message: "a key in the header"},
	} {
		assert.Equal(t, want, f.Error())
		f.Severity = finding.Warning
		assert.Equal(t, want, f.Error(), "an error does not name its severity")
		place, rest, ok := strings.Cut(want, f.Message)
		require.True(t, ok)
		assert.Equal(t, place+"warning: "+f.Message+rest, f.String())
	}
	assert.Equal(t, "error: x [r]", finding.Finding{Rule: "r", Message: "x"}.String(), "without a severity it is an error")
}

func TestAFindingLeadsToItsRuleAndItsCause(t *testing.T) {
	err := fmt.Errorf("adding pump-1: %w", &finding.Finding{Rule: "csr", Severity: finding.Error, Parameter: "CSR", Err: io.ErrUnexpectedEOF})
	assert.ErrorIs(t, err, finding.Rule("csr"))
	assert.NotErrorIs(t, err, finding.Rule("thing-name"))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	f, ok := errors.AsType[*finding.Finding](err)
	require.True(t, ok)
	assert.Equal(t, "CSR", f.Parameter)
}

func TestSeveritiesAreOrdered(t *testing.T) {
	order := []finding.Severity{finding.OK, finding.Note, finding.Unknown, finding.Warning, finding.Error}
	for i, s := range order {
		for j, other := range order {
			assert.Equal(t, i >= j, s.AtLeast(other), "%s and %s", s, other)
		}
	}
	assert.True(t, finding.Severity("").AtLeast(finding.Error), "what has no severity weighs most")
}

func TestAListIsAnErrorIfOneFindingIs(t *testing.T) {
	assert.NoError(t, finding.List(nil).Err())
	list := finding.List{{Rule: "a", Severity: finding.Warning, Message: "doubtful"}, {Rule: "b", Severity: finding.OK}, {Rule: "c", Severity: finding.Unknown}}
	assert.NoError(t, list.Err())
	assert.Len(t, list.AtLeast(finding.Warning), 1)

	list = append(list, finding.Finding{Rule: "d", Severity: finding.Error, Message: "broken"})
	assert.EqualError(t, list.Err(), "broken [d]")
	assert.NotErrorIs(t, list.Err(), finding.Rule("a"))

	list = append(list, finding.Finding{Rule: "e", Message: "worse", Line: 2})
	assert.EqualError(t, list.Err(), "2 errors:\nbroken [d]\nline 2: worse [e]")
	assert.ErrorIs(t, list.Err(), finding.Rule("d"))
	assert.ErrorIs(t, list.Err(), finding.Rule("e"))
	f, ok := errors.AsType[*finding.Finding](list.Err())
	require.True(t, ok)
	assert.Equal(t, finding.Rule("d"), f.Rule, "errors.As finds the first")

	assert.Equal(t, "warning: doubtful [a]\nerror: broken [d]", finding.List{list[0], list[3]}.String())
}

func ExampleList_Err() {
	found := finding.List{
		{Rule: "policy-no-connect", Severity: finding.Warning, Pointer: "/Resources/policy", Message: "no policy allows iot:Connect"},
		{Rule: "thing-name", Severity: finding.Error, Parameter: "ThingName", Message: "has a space"},
	}
	fmt.Println(found)
	fmt.Println(found.Err())
	// Output:
	// /Resources/policy: warning: no policy allows iot:Connect [policy-no-connect]
	// parameter "ThingName": error: has a space [thing-name]
	// parameter "ThingName": has a space [thing-name]
}
