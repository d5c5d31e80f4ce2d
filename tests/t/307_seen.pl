# Seen from outside: numbers that count exactly what happened, in strict Prometheus text; health with and without
# a database; the web server's manners; status.

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Duo;
use PgTide::Process;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new;

# ---- Prometheus text format 0.0.4, strictly ----

my $NAME = qr/[a-zA-Z_:][a-zA-Z0-9_:]*/;
my $LABEL = qr/[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"/;
my $NUMBER = qr/[-+]?(?:\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|Inf|NaN)/;

# ({family => {type, help, samples => [[name, labels, value], ...]}}, [complaints]).
sub parse_metrics
{
	my ($text) = @_;
	my (%family, %series, @bad, $current);
	push @bad, 'does not end with a line end' unless $text =~ /\n\z/;
	for my $line (split /\n/, $text)
	{
		if ($line =~ /^# (HELP|TYPE) ($NAME) (.+)$/)
		{
			my ($what, $name, $rest) = (lc $1, $2, $3);
			push @bad, "$what of $name twice" if $family{$name}{$what};
			push @bad, "$what of $name after its samples" if $family{$name}{samples};
			push @bad, "unknown type: $line" if $what eq 'type' && $rest !~ /^(counter|gauge|histogram)$/;
			$family{$name}{$what} = $rest;
			$current = $name;
			next;
		}
		unless ($line =~ /^($NAME)(?:\{($LABEL(?:,$LABEL)*)\})? ($NUMBER)$/)
		{
			push @bad, "no sample: $line";
			next;
		}
		my ($name, $labels, $value) = ($1, $2 // '', $3);
		my $base = ($family{$current}{type} // '') eq 'histogram' ? $name =~ s/_(bucket|sum|count)$//r : $name;
		push @bad, "$name among the samples of $current" if $base ne $current;
		push @bad, "$name\{$labels} twice" if $series{"$name\{$labels}"}++;
		push @{ $family{$current}{samples} }, [ $name, $labels, $value ];
	}
	for my $name (sort keys %family)
	{
		my $f = $family{$name};
		push @bad, "$name has no HELP or TYPE" unless $f->{help} && $f->{type};
		push @bad, check_histogram($name, $f->{samples}) if $f->{type} eq 'histogram' && $f->{samples};
		push @bad, "counter $name does not end in _total" if $f->{type} eq 'counter' && $name !~ /_total$/;
		push @bad, "counter $name is negative" if $f->{type} eq 'counter' && grep { $_->[2] < 0 } @{ $f->{samples} // [] };
	}
	return (\%family, \@bad);
}

sub check_histogram
{
	my ($name, $samples) = @_;
	my (%series, @bad);
	for my $sample (@$samples)
	{
		my ($which, $labels, $value) = @$sample;
		my $le = $labels =~ s/,?le="([^"]*)"// ? $1 : undef;
		push @{ $series{$labels}{ $which =~ s/^\Q$name\E_//r } }, [ $le, $value ];
	}
	for my $labels (sort keys %series)
	{
		my @buckets = @{ $series{$labels}{bucket} // [] };
		my $count = $series{$labels}{count}[0][1];
		push @bad, "$name\{$labels} has no +Inf at its end" if !@buckets || $buckets[-1][0] ne '+Inf';
		push @bad, "$name\{$labels}: +Inf is not its count" if @buckets && $buckets[-1][1] != $count;
		push @bad, "$name\{$labels} has no sum" unless $series{$labels}{sum};
		for my $n (1 .. $#buckets)
		{
			push @bad, "$name\{$labels} falls" if $buckets[$n][1] < $buckets[ $n - 1 ][1];
			push @bad, "$name\{$labels}: bounds don't rise"
			  if $buckets[$n][0] ne '+Inf' && $buckets[$n][0] <= $buckets[ $n - 1 ][0];
		}
	}
	return @bad;
}

sub metrics_are_strict
{
	my ($side, $when) = @_;
	my ($status, $text) = $duo->relay($side)->get('/metrics');
	my ($families, $bad) = parse_metrics($text);
	is_deeply($bad, [], "$when: /metrics of $side is what Prometheus wants");
	return $families;
}

# All counters of a pipeline, as {name => value}.
sub counters
{
	my ($side, $pipeline) = @_;
	my $metrics = $duo->relay($side)->metrics;
	return { map { /^pg_tide_events_(\w+)_total\{pipeline="\Q$pipeline\E",/ ? ($1 => $metrics->{$_}) : () } keys %$metrics };
}

# Waits until these counters have these values, and says which have not.
sub counted
{
	my ($side, $pipeline, $wanted, $name) = @_;
	my $got = {};
	wait_until(
		sub { my $all = counters($side, $pipeline); $got = { map { $_ => $all->{$_} } keys %$wanted };
			return join(',', map { $got->{$_} // '' } sort keys %$wanted) eq join ',', map { $wanted->{$_} } sort keys %$wanted; },
		20, "$name: " . join ', ', %$wanted);
	return is_deeply($got, $wanted, $name);
}

sub publish
{
	my ($count, $from) = @_;
	$duo->sql('us', sprintf q{SELECT count(tide.outbox_publish('seen', 'e', jsonb_build_object('n', n))) FROM generate_series(%d, %d) n},
		$from, $from + $count - 1);
	return;
}

sub latencies
{
	my ($side, $pipeline) = @_;
	return $duo->relay($side)->metric('pg_tide_commit_to_delivered_seconds_count', qr/pipeline="$pipeline"/);
}

# ---- numbers ----

sub test_counting
{
	publish(100, 1);
	ok(defined $duo->wait_count('eu', 'seen', 100), '100 events arrive');
	counted('us', 'seen-out', { read => 100, delivered => 100, deduplicated => 0, echoed => 0, failed => 0, resent => 0, confirmed => 100 },
		'out: published, delivered and confirmed, 100 each; nothing else');
	counted('eu', 'seen-in', { read => 100, delivered => 100, deduplicated => 0, echoed => 0, failed => 0 }, 'in: 100 delivered');
	is(latencies('us', 'seen-out'), 100, 'each has a latency up to the broker');
	is(latencies('eu', 'seen-in'), 100, '... and up to the inbox');
	is($duo->relay('us')->metric('pg_tide_bytes_total', qr/seen-out/),
		$duo->sql('us', 'SELECT sum(octet_length(payload::text)) FROM tide.seen_outbox'), 'bytes are those of the payloads');
	is($duo->relay('us')->metric('pg_tide_oldest_unsent_age_seconds', qr/seen-out/), 0, 'nothing is unsent');
	return;
}

sub test_duplicates
{
	$duo->sql('eu', q{SELECT tide.relay_disable('seen-in')});
	wait_until(sub { $duo->relay('eu')->metric('pg_tide_pipeline_owned', qr/seen-in/) == 0 }, 5, 'the end of the pipeline');
	$duo->nats->ctl('consumer-delete', 'SEEN', 'seen-in');
	$duo->sql('eu', q{SELECT tide.relay_delete('seen-in')});
	$duo->inbox_from_nats('eu', 'seen-in', 'seen', stream => 'SEEN', subject => 'seen.*');
	counted('eu', 'seen-in', { read => 100, delivered => 0, deduplicated => 100, failed => 0 }, 'read again: 100 duplicates');
	return;
}

sub test_failures
{
	$duo->sql('eu', q{ALTER TABLE tide.seen_inbox ADD CHECK (payload -> 'n' <> '103') NOT VALID});
	publish(10, 101);
	counted('eu', 'seen-in', { read => 110, delivered => 9, deduplicated => 100, failed => 1 }, 'one bad event of ten: 9 delivered, 1 failed');
	$duo->sql('eu', q{SELECT tide.dead_letter_discard(id) FROM tide.dead_letters});

	is($duo->relay('us')->metric('pg_tide_retries_total', qr/seen-out/), 0, 'no retries so far');
	$duo->nats->stop;
	ok(defined $duo->wait_state('us', 'seen-out', 'retrying'), 'without a broker the pipeline retries');
	publish(10, 111);
	ok(defined wait_until(sub { $duo->relay('us')->metric('pg_tide_retries_total', qr/seen-out/) >= 2 }, 20, 'retries'), '... and counts that');
	ok(defined wait_until(sub { $duo->relay('us')->metric('pg_tide_oldest_unsent_age_seconds', qr/seen-out/) > 0.5 }, 20, 'age'),
		'... the oldest unsent event grows old');
	is($duo->relay('us')->metric('pg_tide_pipeline_state', qr/seen-out.*"retrying"/), 1, '... and the state is shown');
	my $families = metrics_are_strict('us', 'without a broker');
	my @states = map { $_->[2] } grep { $_->[1] =~ /seen-out/ } @{ $families->{pg_tide_pipeline_state}{samples} };
	is(join(' ', sort @states), join(' ', (0) x $#states, 1), '... one of all states');
	cmp_ok(scalar @states, '>=', 5, '... which are all there, so that no series comes and goes');
	my ($status, $body) = $duo->relay('us')->get('/readyz');
	is($status, 200, 'a pipeline that can\'t go on does not make the relay unready');
	is(decode_json($body)->{pipelines}{'seen-out'}, 'retrying', '... but /readyz tells');
	$duo->nats->start;
	ok(defined $duo->wait_count('eu', 'seen', 119, 60), 'with the broker back, all arrives');
	counted('us', 'seen-out', { delivered => 120, failed => 0 }, '... and is counted once');
	ok(defined wait_until(sub { $duo->relay('us')->metric('pg_tide_oldest_unsent_age_seconds', qr/seen-out/) == 0 }, 20, 'age'),
		'... and nothing is old');
	return;
}

# ---- health ----

sub test_health
{
	my $relay = $duo->relay('us');
	is(($relay->get('/livez'))[0], 200, 'alive');
	is(($relay->get('/readyz'))[0], 200, 'ready');
	$duo->node->stop('immediate');
	ok(defined wait_until(sub { ($relay->get('/readyz'))[0] == 503 }, 10, 'unready'), 'without its database not ready');
	my (undef, $body) = $relay->get('/readyz');
	ok(!decode_json($body)->{connected}, '... which /readyz explains');
	is(($relay->get('/livez'))[0], 200, '... but alive: a restart would not help');
	metrics_are_strict('us', 'without its database');
	ok($relay->alive, '... and running');
	$duo->node->start;
	ok(defined wait_until(sub { ($relay->get('/readyz'))[0] == 200 }, 20, 'ready'), 'with its database back, ready');
	publish(5, 1001);
	ok(defined $duo->wait_count('eu', 'seen', 124), '... and events go on');
	counted('us', 'seen-out', { delivered => 125 }, '... counted on from where the counters were');
	my @told = grep { /home database/ } split /\n/, $relay->log_text;
	is((grep { /lost the home database/ } @told), 1, '... the log tells the loss once');
	cmp_ok(scalar @told, '<', 10, '... and not every attempt') or diag(join "\n", @told);

	$relay->freeze;
	my $socket = IO::Socket::INET->new(PeerAddr => $relay->{http}, Timeout => 2);
	$relay->thaw;
	ok($socket, 'a relay that is stopped for a moment loses nobody');
	return;
}

# ---- manners of the web server ----

sub raw
{
	my ($request) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => $duo->relay('us')->{http}, Timeout => 5) or return '';
	$socket->print($request);
	$socket->shutdown(1);
	local $SIG{ALRM} = sub { die "no answer\n" };
	alarm 15;
	local $/;
	my $answer = eval { <$socket> } // '';
	alarm 0;
	return $answer;
}

sub status_of
{
	my ($request) = @_;
	return raw($request) =~ m{^HTTP/1\.[01] (\d+)} ? $1 : 0;
}

sub test_http
{
	my $host = "Host: localhost\r\n";
	for my $path ('/nosuch', '/metrics/', '/metrics/../livez', '//metrics', '/..%2f..%2fetc/passwd', '/LIVEZ')
	{
		is(status_of("GET $path HTTP/1.1\r\n$host\r\n"), 404, "GET $path: nothing there");
	}
	for my $method (qw(POST PUT DELETE OPTIONS PATCH TRACE BREW))
	{
		like(raw("$method /metrics HTTP/1.1\r\n${host}Content-Length: 0\r\n\r\n"), qr{^HTTP/1\.1 405 .*^Allow: GET, HEAD\r$}ms,
			"$method: not allowed, and told what is");
	}
	my $head = raw("HEAD /metrics HTTP/1.1\r\n$host\r\n");
	like($head, qr{^HTTP/1\.1 200 }, 'HEAD works');
	like($head, qr{\r\n\r\n\z}, '... without a body');
	is(status_of("GET /metrics?x=1 HTTP/1.1\r\n$host\r\n"), 200, 'a query is ignored');
	for my $name ('localhost', 'LOCALHOST:9187', '127.0.0.1', '127.0.0.1:9187', '127.1.2.3', '[::1]:9187')
	{
		is(status_of("GET /livez HTTP/1.1\r\nHost: $name\r\n\r\n"), 200, "Host: $name");
	}
	for my $name ('example.com', '127.0.0.1.example.com', 'localhost.example.com', '10.0.0.1', '', '127.0.0.1@example.com')
	{
		is(status_of("GET /metrics HTTP/1.1\r\nHost: $name\r\n\r\n"), 403, "Host: \"$name\": refused (DNS rebinding)");
	}
	is(status_of("GET /livez HTTP/1.0\r\n\r\n"), 200, 'HTTP/1.0 without a Host');
	my $answer = raw("GET / HTTP/1.1\r\n$host\r\n");
	like($answer, qr/^\Q$_\E/mi, "/ says $_") for "Content-Security-Policy: default-src 'none'", 'X-Content-Type-Options: nosniff',
	  'Cache-Control: no-store', 'Referrer-Policy: no-referrer';
	unlike($answer, qr/^Access-Control-Allow-Origin/mi, '... and lets no other site read it');
	like(raw("GET /metrics HTTP/1.1\r\n$host\r\n"), qr{^Content-Type: text/plain; version=0\.0\.4}m, '/metrics has Prometheus\' content type');

	isnt(status_of('GET /' . 'x' x 100_000 . " HTTP/1.1\r\n$host\r\n"), 200, 'an endless path');
	isnt(status_of("GET /livez HTTP/1.1\r\n${host}X: " . 'x' x 100_000 . "\r\n\r\n"), 200, 'an endless header');
	is(status_of("\x00\x01\x02garbage\r\n\r\n") == 200 ? 200 : 'refused', 'refused', 'garbage');
	raw("POST / HTTP/1.1\r\n${host}Content-Length: 1000000000\r\n\r\n" . 'x' x 1_000_000);
	my @idle = map { IO::Socket::INET->new(PeerAddr => $duo->relay('us')->{http}, Timeout => 2) } 1 .. 100;
	ok(defined wait_until(sub { status_of("GET /livez HTTP/1.1\r\n$host\r\n") == 200 }, 30, 'an answer'),
		'100 connections that say nothing do not keep others out for ever');
	ok($duo->relay('us')->alive, '... and the relay runs');
	return;
}

# ---- status ----

sub run_status
{
	my (@args) = @_;
	my $command = join ' ', map { "'" . s/'/'\\''/gr . "'" } "$ENV{TIDE_TOP}/build/pg_tide", 'status', @args;
	my $out = `$command 2>&1`;
	return ($? >> 8, $out);
}

sub test_status
{
	my ($code, $out) = run_status('-d', $duo->conninfo('us'), '--json');
	is($code, 0, 'status --json');
	my $status = decode_json($out);
	my %pipeline = map { $_->{name} => $_ } @{ $status->{pipelines} };
	is($pipeline{'seen-out'}{state}, 'running', '... state');
	is($pipeline{'seen-out'}{direction}, 'outbox', '... direction');
	ok($pipeline{'seen-out'}{enabled}, '... enabled');
	like($pipeline{'seen-out'}{owner}, qr/:\d+$/, '... owner');
	is($status->{region}, 'us-east', '... region');
	is($status->{dead_letters}, 0, '... dead letters');
	($code, $out) = run_status('-d', $duo->conninfo('us'));
	like($out, qr/^seen-out +outbox +seen +running/m, 'status for people');
	unlike($out, qr/[^\x20-\x7e\n]/, '... in plain characters');
	($code, $out) = run_status('-d', 'host=127.0.0.1 port=1 connect_timeout=2');
	is($code, 4, 'no database: exit status 4');
	is_deeply($duo->rows('us', q{SELECT name, enabled, state, last_error FROM tide.pipelines}),
		[ { name => 'seen-out', enabled => JSON::PP::true, state => 'running',
			last_error => $duo->sql('us', q{SELECT last_error FROM tide.pipelines}) || undef } ], 'tide.pipelines says the same');
	return;
}

$duo->sql('us', q{SELECT tide.outbox_create('seen')});
$duo->sql('eu', q{SELECT tide.inbox_create('seen')});
$duo->outbox_to_nats('us', 'seen-out', 'seen', stream => 'SEEN', subject_template => 'seen.{op}');
$duo->inbox_from_nats('eu', 'seen-in', 'seen', stream => 'SEEN', subject => 'seen.*');
$duo->start_relays;
metrics_are_strict($_, 'at the start') for qw(us eu);
test_counting();
test_duplicates();
test_failures();
test_status();
test_health();
test_http();
metrics_are_strict($_, 'at the end') for qw(us eu);
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
