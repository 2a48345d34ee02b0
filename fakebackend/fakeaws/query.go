package fakeaws

import (
	"bytes"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/task"
)

// queryService is a service of the query protocol: a form with an Action and a Version, answered in XML.
type queryService struct {
	name      string
	namespace string
	version   string
	actions   []*queryAction
}

// queryAction is one operation. handle returns what goes into <ActionResult>, nil for an answer without one.
type queryAction struct {
	name     string
	required []string // parameters that must be there
	optional []string
	handle   func(h *Handler, r *request, form url.Values) (any, error)
}

// serveQuery answers a request to IAM or STS.
func (h *Handler) serveQuery(w http.ResponseWriter, r *request, service *queryService) {
	if refusal := r.checkSize(); refusal != nil { // the action is in the part that was not read, or may be
		h.failQuery(w, r, service, refusal)
		return
	}
	form, err := url.ParseQuery(string(r.body))
	if r.Method == http.MethodGet || err != nil {
		form = r.query
	}
	name := form.Get("Action")
	// An unsigned request does not name its service. Its action does: no action is in both.
	if r.scope == nil {
		for _, other := range []*queryService{iamService, stsService} {
			if other.find(name) != nil {
				service, r.service = other, other.name
			}
		}
	}
	action := service.find(name)
	if action == nil || form.Get("Version") != service.version {
		h.count(service.name, name, false)
		r.op = "unknown operation"
		h.failQuery(w, r, service, &iam.Error{
			Code: "InvalidAction", Status: http.StatusBadRequest,
			Message: "Could not find operation " + name + " for version " + form.Get("Version"),
		})
		return
	}
	r.op = name
	h.count(service.name, name, true)
	if refusal := h.authenticate(r, false); refusal != nil {
		h.failQuery(w, r, service, refusal)
		return
	}
	strike, refusal := h.strike(r)
	if refusal != nil {
		h.failQuery(w, r, service, refusal)
		return
	}
	var result any
	err = action.check(form)
	if err == nil {
		result, err = action.handle(h, r, form)
	}
	if strike.DropAfter {
		r.drop()
	}
	if err != nil {
		h.failQuery(w, r, service, err)
		return
	}
	var b bytes.Buffer
	b.WriteString("<" + name + `Response xmlns="` + service.namespace + `">`)
	enc := xml.NewEncoder(&b)
	if result != nil {
		if err := enc.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: name + "Result"}}); err != nil {
			h.failQuery(w, r, service, err)
			return
		}
	}
	b.WriteString("<ResponseMetadata><RequestId>" + r.id + "</RequestId></ResponseMetadata></" + name + "Response>")
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(http.StatusOK)
	w.Write(b.Bytes())
}

func (s *queryService) find(name string) *queryAction {
	i := slices.IndexFunc(s.actions, func(a *queryAction) bool { return a.name == name })
	if i < 0 {
		return nil
	}
	return s.actions[i]
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// failQuery answers with an error of the query protocol.
func (h *Handler) failQuery(w http.ResponseWriter, r *request, service *queryService, err error) {
	e, ok := errors.AsType[*iam.Error](err)
	if !ok {
		if refusal, isTask := errors.AsType[*task.Error](err); isTask {
			e = &iam.Error{Code: refusal.Code, Message: refusal.Message, Status: refusal.Status}
			if e.Code == "ThrottlingException" {
				e.Code, e.Status = "Throttling", http.StatusBadRequest
			}
		} else {
			e = &iam.Error{Code: "ServiceFailure", Message: err.Error(), Status: http.StatusInternalServerError}
		}
	}
	r.failure = e.Code
	body := struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Xmlns   string   `xml:"xmlns,attr"`
		Error   struct{ Type, Code, Message string }
		ID      string `xml:"RequestId"`
	}{Xmlns: service.namespace, ID: r.id}
	body.Error.Type, body.Error.Code, body.Error.Message = "Sender", e.Code, e.Message
	if e.Status >= 500 {
		body.Error.Type = "Receiver"
	}
	w.Header().Set("Content-Type", "text/xml")
	if e.Status == 0 {
		e.Status = http.StatusBadRequest
	}
	w.WriteHeader(e.Status)
	if raw, err := xml.Marshal(body); err == nil {
		w.Write(raw)
	}
}

// Lists in a form are Name.member.1, Name.member.2 and so on.

// lengthOf is how many members a list has.
func lengthOf(form url.Values, name string) int {
	n := 0
	for has := true; has; {
		prefix := memberOf(name, n+1)
		has = form.Has(prefix) || form.Has(prefix+".Key") || form.Has(prefix+".Value")
		if has {
			n++
		}
	}
	return n
}

func memberOf(list string, n int) string { return list + ".member." + strconv.Itoa(n) }

// tagsOf reads Tags.member.N.Key and .Value.
func tagsOf(form url.Values) []iam.Tag {
	var out []iam.Tag
	for n := range lengthOf(form, "Tags") {
		prefix := memberOf("Tags", n+1)
		out = append(out, iam.Tag{Key: form.Get(prefix + ".Key"), Value: form.Get(prefix + ".Value")})
	}
	return out
}

// membersOf reads Name.member.N.
func membersOf(form url.Values, name string) []string {
	var out []string
	for n := range lengthOf(form, name) {
		out = append(out, form.Get(memberOf(name, n+1)))
	}
	return out
}

// pageQuery takes one page of a list by the form's Marker and MaxItems. A marker is the number of items before the
// page.
func pageQuery[T any](form url.Values, all []T) (page []T, next string, err error) {
	size, from := 100, 0
	if n, err := strconv.Atoi(form.Get("MaxItems")); err == nil { // it was checked
		size = n
	}
	if text := form.Get("Marker"); text != "" {
		if from, err = strconv.Atoi(text); err != nil || from < 0 {
			return nil, "", &iam.Error{Code: "ValidationError", Status: 400, Message: "Invalid Marker."}
		}
	}
	from = min(from, len(all))
	end := min(from+size, len(all))
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[from:end], next, nil
}

// paging is the part of a list's answer that tells whether there are more items.
type paging struct {
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

func pagingOf(next string) paging { return paging{next != "", next} }
