package csr_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func TestASubjectKeepsItsOrderInBothForms(t *testing.T) {
	want := csr.Subject{{Type: "C", Value: "US"}, {Type: "ST", Value: "WA"}, {Type: "L", Value: "Seattle"}, {Type: "O", Value: "MyOrg"}, {Type: "CN", Value: "MyDept"}}
	for _, text := range []string{
		"C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept",
		"/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept",
		" C = US , ST = WA, L=Seattle,  O=MyOrg, CN=MyDept ",
		"c=US,st=WA,l=Seattle,o=MyOrg,cn=MyDept",
		"countryName=US,stateOrProvinceName=WA,localityName=Seattle,organizationName=MyOrg,commonName=MyDept",
		"2.5.4.6=US,2.5.4.8=WA,2.5.4.7=Seattle,2.5.4.10=MyOrg,2.5.4.3=MyDept",
	} {
		got, err := csr.ParseSubject(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
		assert.Equal(t, "C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept", got.String())
	}
	reversed, err := csr.ParseSubject("CN=MyDept,O=MyOrg,L=Seattle,ST=WA,C=US")
	require.NoError(t, err)
	assert.Equal(t, "CN", reversed[0].Type)
}

func TestEscapesFollowRFC4514InTheFirstFormAndOpensslInTheSecond(t *testing.T) {
	for text, want := range map[string]string{
		`CN=a\,b`:               "a,b",
		`CN=a\+b\"c\\d\<e\>f\;`: `a+b"c\d<e>f;`,
		`CN=\#1\=2`:             "#1=2",
		`CN=\ a b\ `:            " a b ",
		`CN=a\2Cb`:              "a,b",
		`CN=Lu\C4\8Di\C4\87`:    "Lučić",
		`CN=a=b`:                "a=b",
		`CN=a/b`:                "a/b",
		`CN=\{x\}`:              "{x}",
		`/CN=a\/b`:              "a/b",
		`/CN=a,b`:               "a,b",
		`/CN=a\2Cb`:             "a2Cb",
		`/CN= x `:               " x ",
		`/CN=a\ü`:               "aü",
	} {
		got, err := csr.ParseSubject(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got[0].Value, text)
		require.Len(t, got, 1, text)
		again, err := csr.ParseSubject(got.String())
		require.NoError(t, err, got.String())
		assert.Equal(t, got, again, "what String writes, ParseSubject reads")
	}
}

func TestABadSubjectIsRefusedWithItsPlaceAndTheWayOut(t *testing.T) {
	for _, c := range []struct {
		text   string
		offset int
		reason string
	}{
		{"", 0, "is empty"},
		{"   ", 0, "is empty"},
		{"/", 1, "nothing between two separators"},
		{"CN", 0, "is not TYPE=value"},
		{"CN=a,,O=b", 5, "nothing between two separators"},
		{"CN=a,", 5, "nothing between two separators or at its end"},
		{"/CN=a/b", 6, `write \/ there`},
		{"CN=a,b", 5, `write \, there`},
		{"=a", 0, "without a type"},
		{"CN=", 3, "is empty"},
		{"CN=  ,O=x", 5, "is empty"},
		{"XX=a", 0, `"XX" is not known`},
		{"S=WA", 0, "write ST"},
		{"SN=1", 0, "write serialNumber or surname"},
		{"1.2=a", 0, "is not known"},
		{"3.1.2=a", 0, "is not known"},
		{"1.02.3=a", 0, "is not known"},
		{"CN=a+O=b", 4, "names of several attributes are not supported"},
		{"/CN=a+O=b", 5, "names of several attributes are not supported"},
		{"CN=#0403", 3, "announces hex"},
		{`CN="a"`, 3, `write \" for the character`},
		{"CN=a;O=b", 4, `write \; for the character`},
		{`CN=a\`, 4, "ends in a backslash"},
		{`CN=a\q`, 4, "needs no escape"},
		{`CN=a\4`, 4, "needs no escape"},
		{"CN={ThingName}", 3, "parse it as a pattern"},
		{"CN=a}", 4, `write \} for the character`},
		{"C=USA", 2, "exactly two letters"},
		{"O=x,C=U", 6, "exactly two letters"},
		{"C=U1", 2, "exactly two letters"},
		{"CN=" + strings.Repeat("x", 65), 3, "65 characters long, X.520 allows 64"},
		{"O=" + strings.Repeat("ü", 65), 2, "65 characters long, X.520 allows 64"},
		{"L=" + strings.Repeat("x", 129), 2, "X.520 allows 128"},
		{"serialNumber=a_b", 13, `has '_' at byte 1`},
		{"emailAddress=ü@b", 13, "outside ASCII"},
		{"CN=a\nb", 3, "control character"},
		{`CN=a\00b`, 3, "control character"},
		{`CN=\FF`, 3, "not valid UTF-8"},
	} {
		_, err := csr.ParseSubject(c.text)
		require.ErrorAs(t, err, new(*csr.SubjectError), "%q", c.text)
		var e *csr.SubjectError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, c.offset, e.Offset, "%q: %v", c.text, err)
		assert.ErrorContains(t, err, c.reason, "%q", c.text)
	}
}

func TestLengthsCountCharactersNotBytes(t *testing.T) {
	require.NoError(t, csr.CommonName(strings.Repeat("日", 64)).Check())
	require.Error(t, csr.CommonName(strings.Repeat("日", 65)).Check())
	require.Error(t, csr.Subject{}.Check())
	require.Error(t, csr.Subject{{Value: "x"}}.Check())
	require.Error(t, csr.Subject{{Type: "CN"}}.Check())
}

func TestAPatternIsFilledFromARow(t *testing.T) {
	p, err := csr.ParsePattern(`C=US, O=My\, Org ,CN={Model}-{Serial}, OU={Model}`)
	require.NoError(t, err)
	assert.Equal(t, []string{"Model", "Serial"}, p.Fields())
	assert.Equal(t, `C=US, O=My\, Org ,CN={Model}-{Serial}, OU={Model}`, p.String())
	got, err := p.Subject(csr.Device{Row: map[string]string{"Model": "M1", "Serial": "001", "Other": "x"}})
	require.NoError(t, err)
	assert.Equal(t, csr.Subject{{Type: "C", Value: "US"}, {Type: "O", Value: "My, Org"}, {Type: "CN", Value: "M1-001"}, {Type: "OU", Value: "M1"}}, got)

	_, err = p.Subject(csr.Device{Row: map[string]string{"Model": "M1"}})
	require.ErrorAs(t, err, new(*csr.SubjectError))
	require.EqualError(t, err, `field "Serial" is missing in the row; the subject needs it for CN`)
	_, err = p.Subject(csr.Device{Row: map[string]string{"Model": "M1", "Serial": ""}})
	require.EqualError(t, err, `field "Serial" is empty in the row; the subject needs it for CN`)
	_, err = p.Subject(csr.Device{Row: map[string]string{"Model": strings.Repeat("m", 64), "Serial": "1"}})
	require.ErrorAs(t, err, new(*csr.SubjectError))
	assert.ErrorContains(t, err, "66 characters long")
}

func TestAPatternOfTheSecondFormIsFilledToo(t *testing.T) {
	p, err := csr.ParsePattern(`/O=MyOrg/CN=\{{ThingName}\}`)
	require.NoError(t, err)
	got, err := p.Subject(csr.Device{Name: "device-one"})
	require.NoError(t, err)
	assert.Equal(t, `O=MyOrg,CN=\{device-one\}`, got.String())
	got, err = p.Subject(csr.Device{Name: "device-one", Row: map[string]string{"ThingName": "other"}})
	require.NoError(t, err)
	assert.Equal(t, "{other}", got[1].Value, "the row goes first")
	_, err = p.Subject(csr.Device{Name: "device-one", Row: map[string]string{"ThingName": ""}})
	require.ErrorAs(t, err, new(*csr.SubjectError))
}

func TestAValueCannotAddToTheSubject(t *testing.T) {
	for _, form := range []string{"CN={ThingName},O=MyOrg", "/CN={ThingName}/O=MyOrg"} {
		p, err := csr.ParsePattern(form)
		require.NoError(t, err)
		for _, value := range []string{
			"a,O=Evil", "a/O=Evil", `a\,O=Evil`, "a+O=Evil", "{O}", "#04", ` lead`, `"q"`, "a=b", `\2C`, "a;O=Evil", "<a>", "{ThingName}",
		} {
			subject, err := p.Subject(csr.Device{Row: map[string]string{"ThingName": value, "O": "no"}})
			require.NoError(t, err, value)
			der, err := subject.DER()
			require.NoError(t, err)
			var rdns pkix.RDNSequence
			_, err = asn1.Unmarshal(der, &rdns)
			require.NoError(t, err)
			require.Len(t, rdns, 2, value)
			require.Len(t, rdns[0], 1)
			assert.Equal(t, value, rdns[0][0].Value)
			assert.Equal(t, "MyOrg", rdns[1][0].Value)
		}
	}
}

func TestABadPatternIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range []struct {
		text   string
		offset int
		reason string
	}{
		{"CN={ThingName", 3, "not closed"},
		{"CN={}", 3, "without a name"},
		{"CN={ }", 3, "without a name"},
		{"CN={a{b}}", 3, "close the field before it"},
		{"CN={ a}", 3, "space around"},
		{"CN=a}", 4, "closes no field"},
		{"{Type}=a", 0, "a field can only stand in a value"},
		{"CN={a},C=USA", 9, "exactly two letters"},
		{`CN={a}\FF`, 3, "not valid UTF-8"},
		{"CN={a}+O=b", 6, "not supported"},
	} {
		_, err := csr.ParsePattern(c.text)
		var e *csr.SubjectError
		require.ErrorAs(t, err, &e, c.text)
		assert.Equal(t, c.offset, e.Offset, "%q: %v", c.text, err)
		assert.ErrorContains(t, err, c.reason)
	}
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept", "/C=US/CN=a\\/b", `CN=a\,b\2C`, `O=\ x\ ,CN=ü`, "1.2.3.4=x", "CN={x}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		subject, err := csr.ParseSubject(s)
		if err != nil {
			require.ErrorAs(t, err, new(*csr.SubjectError))
			return
		}
		again, err := csr.ParseSubject(subject.String())
		require.NoError(t, err, "what String writes, ParseSubject reads: %q", subject.String())
		require.Equal(t, subject, again)
		requireEncodes(t, subject)
	})
}

// requireEncodes holds the DER of a subject against what encoding/asn1 reads from it.
func requireEncodes(t *testing.T, subject csr.Subject) {
	t.Helper()
	der, err := subject.DER()
	require.NoError(t, err)
	var rdns pkix.RDNSequence
	rest, err := asn1.Unmarshal(der, &rdns)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Len(t, rdns, len(subject))
	for i, a := range subject {
		require.Len(t, rdns[i], 1)
		require.Equal(t, a.Value, rdns[i][0].Value)
	}
}

func FuzzParsePattern(f *testing.F) {
	f.Add("CN={ThingName},O=MyOrg", "device-one", "x")
	f.Add("/CN={a}-{b}/OU=\\{{b}", "a,O=Evil", "b/O=Evil")
	f.Add(`CN=\20{a}\20`, " ", `\`)
	f.Fuzz(func(t *testing.T, text, one, two string) {
		p, err := csr.ParsePattern(text)
		if err != nil {
			require.ErrorAs(t, err, new(*csr.SubjectError))
			return
		}
		row := map[string]string{}
		for i, field := range p.Fields() {
			row[field] = []string{one, two}[i%2]
		}
		plain := map[string]string{}
		for _, field := range p.Fields() {
			plain[field] = "x"
		}
		subject, err := p.Subject(csr.Device{Row: row})
		if err != nil {
			require.True(t, isSubjectError(err), "%v", err)
			return
		}
		requireEncodes(t, subject)
		// The values change neither the number of attributes nor their types.
		if other, err := p.Subject(csr.Device{Row: plain}); err == nil {
			require.Len(t, subject, len(other))
			for i := range other {
				require.Equal(t, other[i].Type, subject[i].Type)
			}
		}
		if len(p.Fields()) == 0 {
			literal, err := csr.ParseSubject(text)
			require.NoError(t, err)
			require.Equal(t, literal, subject)
		}
	})
}

func TestEveryAttributeIsTakenUpToItsLengthInX520AndNotBeyond(t *testing.T) {
	for name, most := range map[string]int{
		"CN": 64, "serialNumber": 64, "C": 2, "L": 128, "ST": 128, "street": 128, "O": 64, "OU": 64, "title": 64, "description": 1024,
		"businessCategory": 128, "postalCode": 40, "surname": 32768, "pseudonym": 128, "UID": 256, "DC": 63, "email": 255,
	} {
		text := func(n int) string {
			if name == "email" {
				return strings.Repeat("x", n-4) + "@x.y"
			}
			return strings.Repeat("X", n)
		}
		_, err := csr.ParseSubject(name + "=" + text(most))
		assert.NoError(t, err, name)
		_, err = csr.ParseSubject(name + "=" + text(most+1))
		assert.Error(t, err, name)
	}
}
