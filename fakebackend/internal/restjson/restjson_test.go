package restjson_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
)

var shapes = map[string]restjson.Shape{
	"Name":   {Min: 1, Max: 5, Pattern: "[a-z]+", Match: func(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" && s != "" }},
	"Value":  {Max: 3},
	"Size":   {Min: 1, Max: 250},
	"Status": {Enum: []string{"ON", "OFF"}},
}

type inside struct {
	Note string `json:"Note" is:"Value"`
	Key  string `json:"Key" is:"Name" required:"true"`
}

type pages struct {
	Size *int32 `query:"size=pageSize" is:"Size"`
}

type input struct {
	Name   string            `path:"name=label" is:"Name"`
	Owner  string            `header:"owner=x-amz-owner" required:"true"`
	Status string            `json:"status" is:"Status"`
	Items  []inside          `json:"items"`
	Names  []string          `json:"names" is:"Name"`
	Map    map[string]string `json:"map" is:"Name,Value"`
	Deep   *inside           `json:"deep"`
	Wanted *inside           `json:"wanted" required:"true"`
	Force  bool              `query:"force"`
	pages
}

func operation() *restjson.Operation {
	return restjson.New("Do", "PUT /things/{label}/do", reflect.TypeFor[input](), shapes)
}

func TestEveryMemberIsReadFromItsPlaceOnly(t *testing.T) {
	in, empty, err := operation().Decode(restjson.Request{
		Labels: map[string]string{"label": "a"},
		Query:  url.Values{"pageSize": {"7"}, "force": {"true"}, "status": {"OFF"}, "size": {"8"}},
		Header: http.Header{"X-Amz-Owner": {"me"}},
		Body:   []byte(`{"status":"ON","Status":"OFF","name":"b","force":false,"deep":{"Key":"k","note":"x"},"wanted":null,"items":[{"Note":""}]}`),
	})
	require.NoError(t, err)
	assert.Equal(t, &input{
		Name: "a", Owner: "me", Status: "ON", Items: []inside{{}}, Deep: &inside{Key: "k"}, Force: true, pages: pages{new(int32(7))},
	}, in)
	assert.Equal(t, restjson.Empty{"items.1.member.note": true}, empty)
}

func TestARequestOfAnotherFormIsRefusedByMember(t *testing.T) {
	for body, want := range map[string]string{
		`[]`:                     "The request body must be a JSON object",
		`{} {}`:                  "The request body goes on after its JSON value",
		`{`:                      "The request body is not JSON",
		`{"status":1}`:           `The member "status" must be a string, not a number`,
		`{"names":"a"}`:          `The member "names" must be a list, not a string`,
		`{"map":[]}`:             `The member "map" must be an object, not a list`,
		`{"deep":true}`:          `The member "deep" must be an object, not a boolean`,
		`{"items":[{"Key":{}}]}`: `The member "items.1.member.key" must be a string, not an object`,
	} {
		_, _, err := operation().Decode(restjson.Request{Body: []byte(body)})
		require.ErrorAs(t, err, new(*restjson.DecodeError), body)
		assert.ErrorContains(t, err, want)
	}
	_, _, err := operation().Decode(restjson.Request{Query: url.Values{"pageSize": {"many"}}})
	assert.EqualError(t, err, `The member "size" must be a whole number, not "many"`)
	_, _, err = operation().Decode(restjson.Request{Query: url.Values{"force": {"1"}}})
	assert.EqualError(t, err, `The member "force" must be true or false, not "1"`)
}

func TestConstraintsAreNamedInAWSsWordsAndInTheOrderOfTheMembers(t *testing.T) {
	good := func() *input { return &input{Name: "a", Owner: "me", Wanted: &inside{Key: "k"}} }
	assert.Empty(t, operation().Check(good(), nil))
	for _, c := range []struct {
		change func(*input)
		empty  restjson.Empty
		want   string
	}{
		{func(in *input) { in.Name, in.Owner, in.Wanted = "", "", nil }, nil, "3 validation errors detected: " +
			"Value null at 'name' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'owner' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'wanted' failed to satisfy constraint: Member must not be null"},
		{func(in *input) { in.Name = "" }, restjson.Empty{"name": true}, "2 validation errors detected: " +
			"Value '' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-z]+; " +
			"Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{func(in *input) { in.Name = "abcdef" }, nil, "Value 'abcdef' at 'name' failed to satisfy constraint: Member must have length less than or equal to 5"},
		{func(in *input) { in.Status = "on" }, nil, "Value 'on' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [ON, OFF]"},
		{func(in *input) { in.Size = new(int32(251)) }, nil, "Value '251' at 'size' failed to satisfy constraint: Member must have value less than or equal to 250"},
		{func(in *input) { in.Size = new(int32(0)) }, nil, "Value '0' at 'size' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{func(in *input) { in.Items = []inside{{Key: "k"}, {Note: "long"}} }, nil, "2 validation errors detected: " +
			"Value 'long' at 'items.2.member.note' failed to satisfy constraint: Member must have length less than or equal to 3; " +
			"Value null at 'items.2.member.key' failed to satisfy constraint: Member must not be null"},
		{func(in *input) { in.Names = []string{"a", "B"} }, nil, "Value '[a, B]' at 'names' failed to satisfy constraint: Member must satisfy constraint: " +
			"[Member must have length less than or equal to 5, Member must have length greater than or equal to 1, " +
			"Member must satisfy regular expression pattern: [a-z]+]"},
		{func(in *input) { in.Map = map[string]string{"b": "1", "A": "long"} }, nil, "2 validation errors detected: " +
			"Value '{A=long, b=1}' at 'map' failed to satisfy constraint: Map keys must satisfy constraint: " +
			"[Member must have length less than or equal to 5, Member must have length greater than or equal to 1, " +
			"Member must satisfy regular expression pattern: [a-z]+]; " +
			"Value '{A=long, b=1}' at 'map' failed to satisfy constraint: Map value must satisfy constraint: " +
			"[Member must have length less than or equal to 3, Member must have length greater than or equal to 0]"},
		{func(in *input) { in.Deep = &inside{} }, nil, "Value null at 'deep.key' failed to satisfy constraint: Member must not be null"},
		{func(in *input) { in.Status = strings.Repeat("é", 200) }, nil, "Value '" + strings.Repeat("é", 128) + "...' at 'status'"},
	} {
		in := good()
		c.change(in)
		assert.Contains(t, operation().Check(in, c.empty), c.want)
	}
}

func TestTagsThatContradictEachOtherPanic(t *testing.T) {
	for name, build := range map[string]func(){
		"no such shape": func() {
			restjson.New("A", "GET /a", reflect.TypeFor[struct {
				B string `json:"b" is:"Nothing"`
			}](), shapes)
		},
		"a field without a place": func() {
			restjson.New("A", "GET /a", reflect.TypeFor[struct{ B string }](), shapes)
		},
		"a label without a member": func() { restjson.New("A", "GET /a/{b}", reflect.TypeFor[struct{}](), shapes) },
		"a member without a label": func() {
			restjson.New("A", "GET /a", reflect.TypeFor[struct {
				B string `path:"b"`
			}](), shapes)
		},
		"no method": func() { restjson.New("A", "/a", reflect.TypeFor[struct{}](), shapes) },
	} {
		assert.Panics(t, build, name)
	}
}

func TestARouterTakesAnEncodedARNForOneSegment(t *testing.T) {
	get := restjson.New("Get", "GET /things/{b}", reflect.TypeFor[struct {
		B string `path:"b"`
	}](), shapes)
	router := restjson.NewRouter([]*restjson.Operation{get, operation()})
	found, labels := router.Find("GET", "/things/arn:aws:iot%2Fa")
	assert.Same(t, get, found)
	assert.Equal(t, map[string]string{"b": "arn:aws:iot/a"}, labels)
	for _, request := range [][2]string{{"POST", "/things/a"}, {"GET", "/things/a/b"}, {"GET", "/thing/a"}, {"GET", "/things/%zz"}} {
		found, _ := router.Find(request[0], request[1])
		assert.Nil(t, found, request)
	}
	assert.True(t, router.Begins("/things"))
	assert.False(t, router.Begins("/thing/a"))
}

func TestAnAnswerIsWrittenAsAWSWritesIt(t *testing.T) {
	type output struct {
		pages
		Name   string          `json:"name,omitempty"`
		At     time.Time       `json:"at"`
		Never  time.Time       `json:"never"`
		Whole  time.Time       `json:"whole"`
		List   []string        `json:"list"`
		Secret restjson.Secret `json:"secret"`
		Link   url.URL         `json:"link"`
		hidden int
	}
	body, err := restjson.Encode(&output{
		At: time.UnixMilli(1511202602898), Whole: time.Unix(1511202602, 0), List: []string{}, Secret: restjson.NewSecret("<key>"), hidden: 1,
	}, func(v any) (string, bool, error) {
		_, ok := v.(url.URL)
		return "replaced", ok, nil
	})
	require.NoError(t, err)
	assert.Equal(t, `{"at":1511202602.898,"link":"replaced","list":[],"secret":"<key>","whole":1511202602.0}`, string(body))
	body, err = restjson.Encode((*output)(nil), func(any) (string, bool, error) { return "", false, nil })
	require.NoError(t, err)
	assert.Equal(t, "{}", string(body))
}

func TestASecretShowsOnlyWhenItIsAskedFor(t *testing.T) {
	secret := restjson.NewSecret("PRIVATE KEY")
	type holder struct{ Key restjson.Secret }
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(format, secret), "PRIVATE")
		assert.NotContains(t, fmt.Sprintf(format, &holder{secret}), "PRIVATE")
	}
	raw, err := json.Marshal(holder{secret})
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "PRIVATE")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "key", secret)
	assert.NotContains(t, log.String(), "PRIVATE")
	assert.Equal(t, "PRIVATE KEY", secret.Reveal())
	assert.Empty(t, restjson.Secret{}.Reveal())
}
