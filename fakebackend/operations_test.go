package fakebackend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The tests of this file hold every entry of the table against the AWS SDK for Go: what its client sends must be read
// member by member, each from its place, and what the fake writes must be read by the client member by member.

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func sdkClient(answer func(r *http.Request) (*http.Response, error)) *iot.Client {
	return iot.New(iot.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://127.0.0.1"), HTTPClient: &http.Client{Transport: transportFunc(answer)},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIATEST", SecretAccessKey: "secret"}, nil
		}),
		RetryMaxAttempts: 1,
	})
}

// callSDK calls an operation of the client by its name. It returns the output and what the call returned as error.
func callSDK(t *testing.T, client *iot.Client, op string, fillInput func(reflect.Value)) (in, out reflect.Value, err error) {
	t.Helper()
	method := reflect.ValueOf(client).MethodByName(op)
	require.True(t, method.IsValid(), "the SDK has no %s", op)
	in = reflect.New(method.Type().In(1).Elem())
	fillInput(in.Elem())
	results := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
	err, _ = results[1].Interface().(error)
	return in, results[0], err
}

var sampleTime = time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC)

// fill gives every field of a struct a value that tells where it belongs. Characters that need escaping are among them.
func fill(v reflect.Value, path string) {
	switch value := v.Addr().Interface().(type) {
	case *time.Time:
		*value = sampleTime
		return
	case *task.Link:
		*value = task.NewLink("https://link/" + path)
		return
	case *restjson.Secret:
		*value = restjson.NewSecret(path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				fill(v.Field(i), path+"/"+strings.ToLower(f.Name))
			}
		}
	case reflect.String:
		v.SetString("a:b+c d%" + path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(len(path)))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), path+"/1")
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		item := reflect.New(v.Type().Elem()).Elem()
		fill(item, path+"/value")
		v.SetMapIndex(reflect.ValueOf("key of"+path).Convert(v.Type().Key()), item)
	}
}

// flatten writes a value as a set of paths and scalars, with names in lower case, so that structs of two libraries
// compare.
func flatten(v reflect.Value, path string, out map[string]string) {
	if v.IsValid() && v.CanInterface() {
		switch value := v.Interface().(type) {
		case time.Time:
			out[path] = value.UTC().Format(time.RFC3339Nano)
			return
		case task.Link:
			out[path] = value.URL()
			return
		case restjson.Secret:
			out[path] = value.Reveal()
			return
		case restjson.Object:
			for name, member := range value.Members() {
				flatten(reflect.ValueOf(member), path+"/"+strings.ToLower(name), out)
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			flatten(v.Elem(), path, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Name != "ResultMetadata" {
				flatten(v.Field(i), path+"/"+strings.ToLower(f.Name), out)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			flatten(v.Index(i), fmt.Sprintf("%s/%d", path, i+1), out)
		}
	case reflect.Map:
		for key, item := range v.Seq2() {
			flatten(item, path+"/"+key.String(), out)
		}
	case reflect.Invalid:
	default:
		out[path] = fmt.Sprint(v.Interface())
	}
}

func TestEveryOperationReadsWhatTheSDKSends(t *testing.T) {
	for _, o := range operations {
		t.Run(o.Name, func(t *testing.T) {
			var got any
			client := sdkClient(func(r *http.Request) (*http.Response, error) {
				found, labels := iotRouter.Find(r.Method, r.URL.EscapedPath())
				require.NotNil(t, found, "%s %s", r.Method, r.URL.EscapedPath())
				require.Equal(t, o.Name, found.Name)
				request := restjson.Request{Labels: labels, Query: r.URL.Query(), Header: r.Header}
				var err error
				if r.Body != nil {
					request.Body, err = io.ReadAll(r.Body)
					require.NoError(t, err)
				}
				got, _, err = found.Decode(request)
				require.NoError(t, err)
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
			})
			in, _, err := callSDK(t, client, o.Name, func(v reflect.Value) { fill(v, "") })
			require.NoError(t, err)
			sent, read := map[string]string{}, map[string]string{}
			flatten(in, "", sent)
			flatten(reflect.ValueOf(got), "", read)
			for path, value := range read {
				assert.Equal(t, sent[path], value, path)
			}
			assert.Len(t, read, countScalars(o.NewInput()), "every member of the fake's input arrives")
		})
	}
}

func TestEveryOperationRequiresTheMembersThatTheSDKRequires(t *testing.T) {
	client := sdkClient(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
	})
	for _, o := range operations {
		want, got := []string{}, []string{}
		_, _, err := callSDK(t, client, o.Name, func(reflect.Value) {})
		if missing, ok := errors.AsType[smithy.InvalidParamsError](err); ok {
			for _, e := range missing.Errs() {
				field := e.(smithy.InvalidParamError).Field()
				want = append(want, strings.ToLower(field[strings.LastIndex(field, ".")+1:]))
			}
		}
		for _, m := range o.Members {
			if m.Required {
				got = append(got, strings.ToLower(m.Name))
			}
		}
		assert.ElementsMatch(t, want, got, o.Name)
	}
}

// countScalars is how many paths a filled value has.
func countScalars(v any) int {
	fill(reflect.ValueOf(v).Elem(), "")
	out := map[string]string{}
	flatten(reflect.ValueOf(v), "", out)
	return len(out)
}

func linkText(v any) (string, bool, error) {
	link, ok := v.(task.Link)
	return link.URL(), ok, nil
}

func TestTheSDKReadsWhatEveryOperationWrites(t *testing.T) {
	for _, o := range operations {
		t.Run(o.Name, func(t *testing.T) {
			written := reflect.New(o.output)
			if o.list == "" {
				fill(written.Elem(), "")
			} else {
				_, token := o.NewInput().(paged).tokenNames()
				list := written.Elem()
				list.FieldByName("Member").SetString(o.list)
				list.FieldByName("Token").SetString(token)
				fill(list.FieldByName("Items"), "")
				fill(list.FieldByName("Next"), "")
			}
			body, err := restjson.Encode(written.Interface(), linkText)
			require.NoError(t, err)
			require.True(t, json.Valid(body))
			client := sdkClient(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
			})
			_, out, err := callSDK(t, client, o.Name, func(v reflect.Value) { fill(v, "") })
			require.NoError(t, err, "%s", body)
			want, got := map[string]string{}, map[string]string{}
			flatten(written, "", want)
			flatten(out, "", got)
			for path, value := range want {
				assert.Equal(t, value, got[path], path)
			}
		})
	}
}

func TestEveryOperationHasOneEntryAndEveryRequestOneOperationAtMost(t *testing.T) {
	isLabel := func(segment string) bool { return strings.HasPrefix(segment, "{") }
	for i, o := range operations {
		assert.Same(t, o, operationNamed(o.Name), "%s stands in the table twice", o.Name)
		for _, other := range operations[:i] {
			a, b := strings.Split(o.Path, "/"), strings.Split(other.Path, "/")
			if o.Method != other.Method || len(a) != len(b) {
				continue
			}
			same := true
			for n := range a {
				same = same && (isLabel(a[n]) || isLabel(b[n]) || a[n] == b[n])
			}
			assert.False(t, same, "a request could be %s or %s", o.Name, other.Name)
		}
	}
	assert.Nil(t, operationNamed("ListUsers"))
}

// FuzzDecode checks, for every operation, that a body that is taken comes back the same when the input is written and
// read again.
func FuzzDecode(f *testing.F) {
	for i, o := range operations {
		in := o.NewInput()
		fill(reflect.ValueOf(in).Elem(), "")
		body, err := restjson.Encode(in, linkText)
		require.NoError(f, err)
		f.Add(i, body)
	}
	f.Fuzz(func(t *testing.T, i int, body []byte) {
		if i < 0 || i >= len(operations) {
			return
		}
		read := func(body []byte) (any, error) {
			in, _, err := operations[i].Decode(restjson.Request{Body: body})
			return in, err
		}
		in, err := read(body)
		if err != nil {
			require.ErrorAs(t, err, new(*restjson.DecodeError))
			return
		}
		written, err := restjson.Encode(in, linkText)
		require.NoError(t, err)
		again, err := read(written)
		require.NoError(t, err, "%s", written)
		before, after := map[string]string{}, map[string]string{}
		flatten(reflect.ValueOf(in), "", before)
		flatten(reflect.ValueOf(again), "", after)
		require.Equal(t, before, after)
	})
}
