{{/*
What the schema cannot say, with the next step. A value that would do nothing, or that the
operator would refuse when it starts, is refused here.
*/}}
{{- define "modelworker.check" -}}
{{- $values := .Values -}}
{{- range $path, $image := dict "image" .Values.image "workers.image" .Values.workers.image -}}
{{- if eq $image.tag "latest" -}}
{{- fail (printf "%s.tag is latest, which names other code from day to day: name a version, or leave it empty for that of the chart" $path) -}}
{{- end -}}
{{- end -}}
{{- range $path, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels -}}
{{- range $key, $_ := $labels -}}
{{- if or (hasPrefix "app.kubernetes.io/" $key) (hasPrefix "helm.sh/" $key) -}}
{{- fail (printf "%s has %s, a label that the chart sets itself: leave it out" $path $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.workers.auth.required (eq .Values.workers.auth.mode "None") -}}
{{- fail "workers.auth.required refuses what workers.auth.mode None is: set mode to Token, or required to false" -}}
{{- end -}}
{{- with .Values.controller -}}
{{- if ne .allowExternal (not (empty .externalHosts)) -}}
{{- fail "controller.allowExternal and controller.externalHosts need each other: say both that workers may register and from which hosts" -}}
{{- end -}}
{{- if and (not .enabled) (or .allowExternal .namespaces) -}}
{{- fail "controller.namespaces and controller.allowExternal do nothing while controller.enabled is false: set it to true" -}}
{{- end -}}
{{- if has (int .port) (list 8085 8086) -}}
{{- fail (printf "controller.port is %d, where the operator takes heartbeats or tells its health: take another, such as 21001" (int .port)) -}}
{{- end -}}
{{- range .namespaces -}}
{{- if and $values.namespaces (not (has . $values.namespaces)) -}}
{{- fail (printf "controller.namespaces has %s, which namespaces has not; the operator knows nothing of it" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (eq (kindIs "invalid" .maxUnavailable) (kindIs "invalid" .minAvailable)) -}}
{{- fail "podDisruptionBudget takes one of maxUnavailable and minAvailable: give one, and set the other to null" -}}
{{- end -}}
{{- end -}}
{{- with .Values.networkPolicy.workers -}}
{{- if and .enabled (not .namespaces) (not $values.namespaces) -}}
{{- fail "networkPolicy.workers needs networkPolicy.workers.namespaces: a policy holds in one namespace, and the release serves all of them" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.service.enabled) -}}
{{- fail "metrics.serviceMonitor needs the Service of metrics.service.enabled" -}}
{{- end -}}
{{- $own := list "NAMESPACE" "POD_IP" -}}
{{- range fromYamlArray (include "modelworker.settings" .) -}}
{{- $own = append $own (trimPrefix "MODELWORKER_OPERATOR_" .name) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has (trimPrefix "MODELWORKER_OPERATOR_" .name) $own | and (hasPrefix "MODELWORKER_OPERATOR_" .name) -}}
{{- fail (printf "extraEnv has %s, which the chart sets itself: use the value for it" .name) -}}
{{- end -}}
{{- end -}}
{{- end }}
