{{/*
The operator's settings as environment variables, by name without its prefix. What is not set is
left to the operator's own default.
*/}}
{{- define "modelworker.settings" -}}
{{- $workers := .Values.workers -}}
{{- $operator := include "modelworker.operator" . -}}
{{- $settings := dict
  "HEARTBEAT_URL" (printf "http://%s.%s.svc:8085" $operator .Release.Namespace)
  "PUBLISH_SERVICE" $operator
  "LEASE_NAME" $operator
  "NAMESPACES" (join "," .Values.namespaces)
  "WORKER_IMAGE" (include "modelworker.image" (list $workers.image .Chart.AppVersion))
  "WORKER_IMAGE_PULL_SECRETS" (include "modelworker.names" $workers.imagePullSecrets)
  "WORKER_GPU_RESOURCE_NAME" $workers.gpuResourceName
  "WORKER_RUNTIME_CLASS" $workers.runtimeClassName
  "WORKER_AUTH" (lower $workers.auth.mode)
  "WORKER_AUTH_REQUIRED" (ternary "true" "" $workers.auth.required)
  "WORKER_AUTH_NAMESPACES" (join "," $workers.auth.namespaces)
  "TRUSTED_REPOSITORIES" (join "," $workers.trustedRepositories)
  "LOG_LEVEL" .Values.logLevel
  "RESYNC_SECONDS" (toString .Values.resyncSeconds)
  "WORKERS" (toString .Values.reconcileWorkers)
-}}
{{- with .Values.controller -}}
{{- if .enabled -}}
{{- $_ := set $settings "CONTROLLER_HOST" "0.0.0.0" -}}
{{- $_ := set $settings "CONTROLLER_PORT" (toString .port) -}}
{{- $_ := set $settings "CONTROLLER_NAMESPACES" (join "," .namespaces) -}}
{{- $_ := set $settings "CONTROLLER_ALLOW_EXTERNAL" (ternary "true" "" .allowExternal) -}}
{{- $_ := set $settings "CONTROLLER_EXTERNAL_HOSTS" (join "," .externalHosts) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $settings -}}
{{- if $value }}
- name: MODELWORKER_OPERATOR_{{ $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The names of [{name: a}, {name: b}] with commas. */}}
{{- define "modelworker.names" -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names .name }}{{ end -}}
{{- join "," $names -}}
{{- end }}
