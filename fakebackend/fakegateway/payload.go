package fakegateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// format is a way of writing a payload: JSON or CBOR. A member that stands twice, text that is not UTF-8 and anything
// after the payload are refused in both, so that a request means the same in either.
type format struct {
	name string // as in topics
	// object returns the members of an object, each as it is written; nil for null.
	object func(raw []byte) (map[string][]byte, error)
	// text reads a string; nil for null.
	text   func(raw []byte) (*string, error)
	encode func(v any) ([]byte, error)
}

// memberLimit is how many members an object of a payload can have. AWS documents none.
const memberLimit = 1024

var formats = []*format{
	{"json", jsonObject, textWith(json.Unmarshal), json.Marshal},
	{"cbor", cborObject, textWith(cborDecoding.Unmarshal), cborEncoding.Marshal},
}

var (
	cborDecoding = mode(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxMapPairs: memberLimit, MaxArrayElements: memberLimit,
	}.DecMode())
	cborEncoding = mode(cbor.CoreDetEncOptions().EncMode())
)

// mode is a mode of the library, whose options are constants of this file.
func mode[M any](m M, err error) M {
	if err != nil {
		panic("fakegateway: " + err.Error())
	}
	return m
}

func textWith(unmarshal func([]byte, any) error) func([]byte) (*string, error) {
	return func(raw []byte) (text *string, err error) {
		if err = unmarshal(raw, &text); err != nil {
			return nil, errors.New("it must be a string")
		}
		return text, nil
	}
}

func cborObject(raw []byte) (map[string][]byte, error) {
	var members map[string]cbor.RawMessage
	if err := cborDecoding.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	return plain(members), nil
}

func jsonObject(raw []byte) (map[string][]byte, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is no UTF-8 text")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	switch first, err := d.Token(); {
	case err != nil:
		return nil, fmt.Errorf("it is no JSON: %w", err)
	case first == nil:
		return nil, atEnd(d)
	case first != json.Delim('{'):
		return nil, errors.New("it must be an object")
	}
	members := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("it is no JSON: %w", err)
		}
		if _, ok := members[name.(string)]; ok {
			return nil, fmt.Errorf("the member %q stands there twice", name)
		}
		if members[name.(string)] = value; len(members) > memberLimit {
			return nil, fmt.Errorf("it has more than %d members", memberLimit)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	return plain(members), atEnd(d)
}

// atEnd checks that nothing follows.
func atEnd(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows after the object")
	}
	return nil
}

func plain[T ~[]byte](members map[string]T) map[string][]byte {
	if members == nil {
		return nil
	}
	out := make(map[string][]byte, len(members))
	for name, value := range members {
		out[name] = value
	}
	return out
}

// claimRequest are the members that the requests of provisioning by claim have. Others are ignored.
type claimRequest struct {
	CSR        string            // certificateSigningRequest
	Token      string            // certificateOwnershipToken
	Parameters map[string]string // parameters
}

// claimRequest reads a request. An empty payload is one without members, as AWS documents for CreateKeysAndCertificate.
func (f *format) claimRequest(payload []byte) (r claimRequest, err error) {
	if len(payload) == 0 {
		return r, nil
	}
	members, err := f.object(payload)
	if err != nil {
		return r, err
	}
	if r.CSR, err = f.member(members, "certificateSigningRequest"); err != nil {
		return r, err
	}
	if r.Token, err = f.member(members, "certificateOwnershipToken"); err != nil {
		return r, err
	}
	raw, ok := members["parameters"]
	if !ok {
		return r, nil
	}
	parameters, err := f.object(raw)
	if err != nil {
		return r, fmt.Errorf("parameters: %w", err)
	}
	for name, raw := range parameters {
		value, err := f.text(raw)
		if err != nil || value == nil {
			return r, fmt.Errorf("parameters: %q must be a string", name)
		}
		if r.Parameters == nil {
			r.Parameters = make(map[string]string, len(parameters))
		}
		r.Parameters[name] = *value
	}
	return r, nil
}

// member reads a member that is a string; "" if it is absent or null.
func (f *format) member(members map[string][]byte, name string) (string, error) {
	raw, ok := members[name]
	if !ok {
		return "", nil
	}
	text, err := f.text(raw)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if text == nil {
		return "", nil
	}
	return *text, nil
}

// The answers of provisioning by claim, with AWS's names. They hold secrets, and go to the device alone.
type (
	issuedAnswer struct {
		CertificateID             string `json:"certificateId"`
		CertificatePEM            string `json:"certificatePem"`
		PrivateKey                string `json:"privateKey,omitempty"`
		CertificateOwnershipToken string `json:"certificateOwnershipToken"`
	}
	provisionedAnswer struct {
		DeviceConfiguration map[string]string `json:"deviceConfiguration"`
		ThingName           string            `json:"thingName,omitempty"`
	}
	rejectedAnswer struct {
		StatusCode   int    `json:"statusCode"`
		ErrorCode    string `json:"errorCode"`
		ErrorMessage string `json:"errorMessage"`
	}
)
