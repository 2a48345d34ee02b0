package fakeaws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// controlRoutes are the handler's own interface, by what follows /_fake/ and by method.
var controlRoutes = map[string]map[string]func(*Handler, http.ResponseWriter, *http.Request){
	"ca.pem":   {http.MethodGet: (*Handler).getCA},
	"root.pem": {http.MethodGet: (*Handler).getRootCA},
	"events":   {http.MethodGet: (*Handler).getEvents},
	"state":    {http.MethodGet: (*Handler).getState},
	"reset":    {http.MethodPost: (*Handler).reset},
	"faults":   {http.MethodGet: (*Handler).getFaults, http.MethodPost: (*Handler).setFaults, http.MethodDelete: (*Handler).removeFaults},
	"calls":    {http.MethodGet: (*Handler).getCalls},
	"snapshot": {http.MethodGet: (*Handler).getSnapshot, http.MethodPut: (*Handler).restore},
	"advance":  {http.MethodPost: (*Handler).advance},
}

// serveControl answers the handler's own interface below /_fake/.
func (h *Handler) serveControl(w http.ResponseWriter, r *http.Request) {
	if refusal := h.foreign(r); refusal != "" {
		controlError(w, http.StatusForbidden, refusal)
		return
	}
	routes, ok := controlRoutes[strings.TrimPrefix(r.URL.Path, "/_fake/")]
	if !ok {
		controlError(w, http.StatusNotFound, fmt.Sprintf("there is no %s; below /_fake/ there are %s", r.URL.Path,
			strings.Join(slices.Sorted(maps.Keys(controlRoutes)), ", ")))
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // without the body, which the server leaves out
	}
	serve, ok := routes[method]
	if !ok {
		allowed := slices.Sorted(maps.Keys(routes))
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		controlError(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s, not %s", r.URL.Path, strings.Join(allowed, ", "), r.Method))
		return
	}
	serve(h, w, r)
}

// foreign refuses what a web page of somebody else can make a browser send: a request from another site, and one for a
// name that the page's owner has pointed at this machine. It returns what is wrong, "" when nothing is.
func (h *Handler) foreign(r *http.Request) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if !h.ownHost(host) {
		return fmt.Sprintf("the control interface is not reached under the name %q: use an IP address or localhost, or name the host in Options.ControlHosts (-control-host of examples/fakeaws)", host)
	}
	site := r.Header.Get("Sec-Fetch-Site")
	origin, err := url.Parse(r.Header.Get("Origin"))
	if site != "" && site != "same-origin" && site != "none" || err != nil || r.Header.Get("Origin") != "" && origin.Host != r.Host {
		return "the control interface takes no request from a page of another site"
	}
	return ""
}

// ownHost reports whether the control interface may be reached under a name. An IP address and a name without a dot
// cannot be pointed elsewhere by a stranger's name server, nor can a name that no public name server has.
func (h *Handler) ownHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(host, ".") {
		return true
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return slices.Contains([]string{"localhost", "internal", "test"}, last) ||
		slices.ContainsFunc(h.opts.ControlHosts, func(own string) bool { return strings.EqualFold(own, host) })
}

func (h *Handler) getCA(w http.ResponseWriter, _ *http.Request) { controlPEM(w, h.backend.CA()) }

func (h *Handler) getRootCA(w http.ResponseWriter, _ *http.Request) {
	controlPEM(w, h.backend.RootCA())
}

func controlPEM(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(text)
}

// getEvents streams the events, each a line that is sent at once, until the client goes or the server closes.
func (h *Handler) getEvents(w http.ResponseWriter, r *http.Request) {
	follow := true
	if text := r.URL.Query().Get("follow"); text != "" {
		var err error
		if follow, err = strconv.ParseBool(text); err != nil {
			controlError(w, http.StatusBadRequest, "the query member follow must be true or false, not "+strconv.Quote(text))
			return
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if !follow || r.Method == http.MethodHead {
		cancel()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	lines, flush := json.NewEncoder(w), http.NewResponseController(w)
	_ = flush.Flush() // a writer that cannot flush sends all at the end
	for e := range h.backend.Events(ctx) {
		if lines.Encode(e) != nil {
			return
		}
		_ = flush.Flush()
	}
}

func (h *Handler) getState(w http.ResponseWriter, _ *http.Request) {
	raw, err := h.backend.StateJSON()
	if err != nil {
		controlError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(raw)
}

func (h *Handler) reset(w http.ResponseWriter, _ *http.Request) {
	h.backend.Reset()
	w.WriteHeader(http.StatusNoContent)
}

// maxSnapshot is the most that a snapshot may hold.
const maxSnapshot = 1 << 30

func (h *Handler) getSnapshot(w http.ResponseWriter, _ *http.Request) {
	raw, err := h.backend.Snapshot().MarshalBinary()
	if err != nil {
		controlError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(raw)
}

func (h *Handler) restore(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSnapshot))
	if err != nil {
		controlError(w, http.StatusBadRequest, "the body could not be read: "+err.Error())
		return
	}
	snapshot := new(fakebackend.Snapshot)
	if err = snapshot.UnmarshalBinary(raw); err == nil {
		err = h.backend.Restore(snapshot)
	}
	if err != nil {
		controlError(w, http.StatusBadRequest, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handler) getCalls(w http.ResponseWriter, _ *http.Request) {
	calls := h.Calls()
	if calls == nil {
		calls = []Call{}
	}
	controlJSON(w, calls)
}

func (h *Handler) advance(w http.ResponseWriter, r *http.Request) {
	by, err := time.ParseDuration(r.URL.Query().Get("by"))
	if err != nil || by < 0 {
		controlError(w, http.StatusBadRequest, "the query member by must be a duration such as 90s or 24h; the clock goes forward only")
		return
	}
	h.backend.Advance(by)
	controlJSON(w, map[string]string{"now": h.backend.Now().UTC().Format(time.RFC3339Nano)})
}

func (h *Handler) getFaults(w http.ResponseWriter, _ *http.Request) {
	faults := h.backend.Faults()
	if faults == nil {
		faults = []fakebackend.FaultStatus{}
	}
	controlJSON(w, faults)
}

func (h *Handler) setFaults(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		controlError(w, http.StatusBadRequest, "the body broke off: "+err.Error())
		return
	}
	raw = bytes.TrimSpace(raw)
	list, err := readFaults(raw)
	if err != nil {
		controlError(w, http.StatusBadRequest, "the body must be a fault, or a list of faults, as JSON: "+err.Error())
		return
	}
	ids := make([]int, 0, len(list))
	for _, f := range list {
		id, err := h.backend.AddFault(f)
		if err != nil {
			for _, id := range ids {
				h.backend.RemoveFault(id) // all or none
			}
			controlError(w, http.StatusBadRequest, err.Error())
			return
		}
		ids = append(ids, id)
	}
	controlJSON(w, map[string][]int{"ids": ids})
}

// readFaults reads one fault or a list.
func readFaults(raw []byte) ([]fakebackend.Fault, error) {
	var items []json.RawMessage
	if len(raw) > 0 && raw[0] == '[' {
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, err
		}
	} else {
		items = []json.RawMessage{raw}
	}
	list := make([]fakebackend.Fault, len(items))
	for i, item := range items {
		if err := json.Unmarshal(item, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (h *Handler) removeFaults(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("id")
	if text == "" {
		h.backend.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	id, err := strconv.Atoi(text)
	if err != nil {
		controlError(w, http.StatusBadRequest, "the query member id must be a number, not "+strconv.Quote(text))
		return
	}
	h.backend.RemoveFault(id)
	w.WriteHeader(http.StatusNoContent)
}

func controlJSON(w http.ResponseWriter, v any) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		controlError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(raw, '\n'))
}

func controlError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	raw, err := json.Marshal(map[string]string{"error": text})
	if err != nil { // a map of strings always encodes
		return
	}
	w.Write(append(raw, '\n'))
}
