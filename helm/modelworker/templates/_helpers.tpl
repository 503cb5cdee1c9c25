{{/* Beginning of every name; short enough for what is put behind it. */}}
{{- define "modelworker.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Name of the operator's objects, and of the Service that workers post heartbeats to. */}}
{{- define "modelworker.operator" -}}
{{- include "modelworker.fullname" . }}-operator
{{- end }}

{{/* Name of objects outside every namespace: two releases of one name do not share them. */}}
{{- define "modelworker.clustername" -}}
{{- printf "%s:%s" .Release.Namespace (include "modelworker.operator" .) -}}
{{- end }}

{{- define "modelworker.serviceaccount" -}}
{{- default (ternary (include "modelworker.operator" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end }}

{{/* What never changes in the life of a release. */}}
{{- define "modelworker.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelworker.labels" -}}
{{ include "modelworker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: modelworker
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "modelworker.operator.selector" -}}
{{ include "modelworker.selector" . }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "modelworker.operator.labels" -}}
{{ include "modelworker.labels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{/* [image, default tag] as one reference. */}}
{{- define "modelworker.image" -}}
{{- $image := index . 0 -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ default (index . 1) $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* What the operator may do with the objects of a namespace that it serves. */}}
{{- define "modelworker.rules" -}}
- apiGroups: [modelworker.dev]
  resources: [modelworkers, rewardmodels]
  verbs: [list, watch]
- apiGroups: [modelworker.dev]
  resources: [modelworkers/status, rewardmodels/status]
  verbs: [patch]
{{- if .Values.rbac.finalizers }}
- apiGroups: [modelworker.dev]
  resources: [modelworkers/finalizers, rewardmodels/finalizers]
  verbs: [update]
{{- end }}
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* The binding of a role to the operator, below `subjects:`. */}}
{{- define "modelworker.subject" -}}
- kind: ServiceAccount
  name: {{ include "modelworker.serviceaccount" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* The names of namespaces as a selector of them. */}}
{{- define "modelworker.namespaceselector" -}}
{{- if . -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values: {{ toYaml . | nindent 6 }}
{{- else -}}
{}
{{- end -}}
{{- end }}

{{/* The security context of a container under the restricted Pod Security Standard. */}}
{{- define "modelworker.containersecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "modelworker.podsecurity" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Names are looked up wherever the cluster has its servers. */}}
{{- define "modelworker.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* The pod of `helm test`. */}}
{{- define "modelworker.test.selector" -}}
{{ include "modelworker.selector" . }}
app.kubernetes.io/component: test
{{- end }}
