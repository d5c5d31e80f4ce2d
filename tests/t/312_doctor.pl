# The doctor: nothing to say about a set-up that keeps the promise, and the setting's name for each that does not.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;

use PgTide::Duo;
use PgTide::Nats;
use PgTide::Test qw(wait_until);

my $json = JSON::PP->new->canonical;
my $duo = PgTide::Duo->new(nats => 0);
my %url = (us => 'nats://127.0.0.1:4232', eu => 'nats://127.0.0.1:4233', one => 'nats://127.0.0.1:4234',
	gw_us => 'nats://127.0.0.1:4235', gw_eu => 'nats://127.0.0.1:4236');
my %nats;

# ({"check subject" => {level, message, hint}}, exit status)
sub doctor
{
	my ($db) = @_;
	my $out = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$duo->conninfo($db)}" --json 2>&1`;
	my $status = $? >> 8;
	my $document = eval { decode_json($out) } // do { diag($out); {} };
	return ({ map { join(' ', $_->{check}, $_->{subject} // ()) => $_ } @{ $document->{findings} } }, $status);
}

# A finding of that level about that check, whose message and hint match.
sub finds
{
	my ($db, $level, $check, $message, $hint, $name) = @_;
	my ($found, $status) = doctor($db);
	my $finding = $found->{$check};
	is($finding->{level}, $level, $name) or diag(explain([ grep { $_->{level} =~ /warn|error/ } values %$found ]));
	like($finding->{message} // '', $message, '... which names the setting');
	like($finding->{hint} // '', $hint, '... and the hint says what to do');
	is($status == 0 ? 0 : 1, $level =~ /warn|error/ ? 1 : $status == 0 ? 0 : 1, '... and the exit status tells') if $level =~ /warn|error/;
	return;
}

sub server
{
	my ($name, $config) = @_;
	(my $port = $url{$name}) =~ s/.*://;
	$nats{$name} = PgTide::Nats->new(name => $name, url => $url{$name}, config => <<~"END")->start;
		server_name: "$name"
		listen: "127.0.0.1:$port"
		$config
		END
	return;
}

# Both directions of one pair of streams at those servers.
sub pipelines
{
	my ($name, %where) = @_;
	for my $db (qw(us eu))
	{
		my $peer = $db eq 'us' ? 'eu' : 'us';
		$duo->sql($db, "SELECT tide.outbox_create('$name'), tide.inbox_create('$name')")
		  unless $duo->sql($db, "SELECT count(*) FROM tide.outbox WHERE name = '$name'");
		$duo->outbox_to_nats($db, "$name-out", $name, url => $where{$db}, stream => uc $name, subject_template => "$name.{op}.$db");
		$duo->inbox_from_nats($db, "$name-in", $name, url => $where{$db}, stream => uc $name, subject => "$name.*.$peer", durable_name => $db);
	}
	return;
}

sub gone
{
	my ($name) = @_;
	for my $db (qw(us eu))
	{
		$duo->sql($db, "SELECT tide.relay_delete('$name-out'), tide.relay_delete('$name-in'), tide.outbox_drop('$name'), tide.inbox_drop('$name')");
	}
	return;
}

sub cross
{
	my ($name) = @_;
	$duo->sql($_, "SELECT tide.outbox_publish('$name', 'e', '{}')") for qw(us eu);
	ok(defined $duo->wait_count($_, $name, 1, 60), "$name: an event has reached $_") for qw(us eu);
	return;
}

sub make_stream
{
	my ($server, $name, %config) = @_;
	$nats{$server}->ctl('stream-create', $name, $json->encode({ name => $name, storage => 'file', %config }));
	return;
}

sub test_healthy
{
	server('us', "jetstream { store_dir: \"data\", domain: \"us-east\" }\nleafnodes { listen: \"127.0.0.1:7432\" }");
	server('eu', "jetstream { store_dir: \"data\", domain: \"eu-west\" }\n"
		  . 'leafnodes { reconnect: 1, remotes: [ { url: "nats-leaf://127.0.0.1:7432" } ] }');
	ok(defined wait_until(sub { ($nats{us}->ctl_status('--timeout', 1000, '--domain', 'eu-west', 'account-info'))[0] == 0 }, 30, 'the link'), 'two domains, joined');
	pipelines('good', %url);
	cross('good');
	for my $db (qw(us eu))
	{
		my ($found, $status) = doctor($db);
		is($status, 0, "$db: a set-up that keeps the promise: exit status 0");
		is_deeply([ grep { $_->{level} =~ /warn|error/ } values %$found ], [], '... no warning, no error');
		is($found->{"nats.stream good-$_"}{level}, 'ok', "... the stream is looked at for good-$_") for qw(out in);
		like($found->{'nats.sync good-out'}{message} // '', qr/sync/, '... and what the server does about the disk is noted');
	}
	my $text = `$ENV{TIDE_TOP}/build/pg_tide doctor -d "${\$duo->conninfo('us')}"`;
	is($?, 0, 'for people, too');
	like($text, qr/^0 error\(s\), 0 warning\(s\), \d+ note\(s\), \d+ skipped$/m, '... with a summary');
	return;
}

# The naive set-up: both streams take everything off the wire, joined by the leaf node.
sub test_wide
{
	make_stream($_, 'WIDE', subjects => ['wide.>']) for qw(us eu);
	pipelines('wide', %url);
	ok(defined $duo->wait_state($_, 'wide-out', 'running'), "wide: $_ publishes") for qw(us eu);
	finds('us', 'error', 'nats.wide_subjects wide-out', qr/captures "wide\.\*\.eu" off the wire.*cut never arrives/, qr/[Nn]arrow the stream's subjects/,
		'subjects so wide that a cut loses events');
	gone('wide');
	return;
}

# One JetStream for two regions.
sub test_no_domain
{
	server('one', 'jetstream { store_dir: "data" }');
	pipelines('one', us => $url{one}, eu => $url{one});
	cross('one');
	finds('us', 'warn', 'nats.domain one-in', qr/region "eu-west" uses the same JetStream/, qr/domain/, 'one JetStream for both regions');
	gone('one');
	return;
}

# One JetStream over gateways: the tutorial's block with a cluster, so that it starts at all.
sub test_gateway
{
	for my $side (qw(us eu))
	{
		my ($name, $n) = $side eq 'us' ? ('us-east', 1) : ('eu-west', 2);
		server("gw_$side", <<~"END");
			jetstream { store_dir: "data" }
			cluster { name: "$name", listen: "127.0.0.1:644$n", routes: [ "nats://127.0.0.1:644$n" ] }
			accounts { SYS {} }
			system_account: "SYS"
			gateway { name: "$name", listen: "127.0.0.1:744$n", gateways: [
				{ name: "us-east", urls: ["nats://127.0.0.1:7441"] }, { name: "eu-west", urls: ["nats://127.0.0.1:7442"] } ] }
			END
	}
	my $joined = wait_until(sub { my ($status, $out) = $nats{gw_us}->ctl_status('--timeout', 2000, 'stream-create', 'GATE',
				$json->encode({ name => 'GATE', storage => 'file', subjects => [ 'gate.*.us', 'gate.*.eu' ] })); $status == 0 || $out =~ /already/ }, 60, 'a leader');
  SKIP:
	{
		skip('this server elected no JetStream leader over the gateway', 4) unless defined $joined;
		pipelines('gate', us => $url{gw_us}, eu => $url{gw_eu});
		ok(defined $duo->wait_state('eu', 'gate-out', 'running', 60), 'gateway: it seems to work')
		  or diag($duo->sql('eu', q{SELECT last_error FROM tide.pipelines WHERE name = 'gate-out'}));
		my $home = $nats{gw_us}->ctl('stream-info', 'GATE')->{cluster}{name};
		my $away = $home eq 'us-east' ? 'eu' : 'us';
		finds($away, 'error', 'nats.gateway gate-out', qr/stream "GATE" lives in cluster "$home".*gateway/, qr/JetStream of its own/,
			'one stream shared over a gateway');
		gone('gate');
	}
	$nats{$_}->stop for qw(gw_us gw_eu);
	return;
}

sub test_streams
{
	make_stream('us', 'MEMORY', storage => 'memory', subjects => ['memory.>']);
	make_stream('us', 'SHORT', duplicate_window => 5e9, subjects => ['short.>']);
	make_stream('us', 'OLD', discard => 'old', max_bytes => 1e6, subjects => ['old.>']);
	make_stream('us', 'QUEUE', retention => 'workqueue', subjects => ['queue.>']);
	make_stream('us', 'NARROW', subjects => ['narrow.other']);
	my %wanted = (
		memory => [ 'error', 'nats.storage', qr/storage memory/, qr/storage file/ ],
		short  => [ 'warn',  'nats.duplicate_window', qr/5 s only \(duplicate_window\)/, qr/duplicate_window/ ],
		old    => [ 'warn',  'nats.discard', qr/discard old.*max_bytes 1000000/, qr/discard to new/ ],
		queue  => [ 'warn',  'nats.retention', qr/retention workqueue/, qr/retention limits/ ],
		narrow => [ 'error', 'nats.subjects', qr/does not capture "narrow\.\*"/, qr/subjects/ ],
		absent => [ 'warn',  'nats.stream', qr/stream "ABSENT" does not exist/, qr/provision/ ]);
	for my $name (sort keys %wanted)
	{
		$duo->sql('us', "SELECT tide.outbox_create('$name')");
		$duo->outbox_to_nats('us', $name, $name, url => $url{us}, stream => uc $name, subject_template => "$name.{op}",
			$name eq 'absent' ? (provision => JSON::PP::false) : ());
	}
	my ($found, $status) = doctor('us');
	is($status, 1, 'streams with faults: exit status 1');
	for my $name (sort keys %wanted)
	{
		my ($level, $check, $message, $hint) = @{ $wanted{$name} };
		my $finding = $found->{"$check $name"} // {};
		is($finding->{level}, $level, "$name: $level $check") or diag(explain([ grep { ($_->{subject} // '') eq $name } values %$found ]));
		like($finding->{message} // '', $message, '... names the setting');
		like($finding->{hint} // '', $hint, '... says what to do');
	}
	$duo->sql('us', "SELECT tide.relay_delete('$_'), tide.outbox_drop('$_')") for sort keys %wanted;
	$duo->outbox_to_nats('us', 'nowhere', 'good', url => 'nats://127.0.0.1:1', stream => 'X', subject_template => 'nowhere.{op}');
	finds('us', 'error', 'nats.connect nowhere', qr/127\.0\.0\.1:1/, qr/nats-server running/, 'a broker that is not there');
	$duo->sql('us', q{SELECT tide.relay_delete('nowhere')});
	return;
}

sub test_database
{
	my ($found, $status);
	$duo->sql('us', q{SELECT tide.relay_disable('good-out')});
	finds('us', 'warn', 'pipeline.enabled good-out', qr/disabled.*keeps everything/, qr/relay_enable\('good-out'\)/, 'a disabled pipeline');
	$duo->wait_value('us', q{SELECT state FROM tide.pipelines WHERE name = 'good-out'}, 'disabled');
	$duo->wait_value('us', q{SELECT count(*) FROM tide.relay_poll() WHERE name = 'good-out' AND holder_pid IS NOT NULL}, 0);
	# An event that nobody takes: or else the segment might count as delivered, and be emptied before the doctor looks.
	$duo->sql('us', q{SELECT tide.outbox_publish('good', 'e', '{}')});
	$duo->sql('us', q{UPDATE tide.outbox SET segment = 1, closed_at[1] = now() - interval '2 days' WHERE name = 'good'});
	finds('us', 'warn', 'outbox good', qr/1 segment\(s\) past the retention/, qr/good-out \(disabled\)/, 'a segment that can\'t be emptied for it');
	$duo->sql('us', q{SELECT tide.relay_enable('good-out')});
	ok(defined wait_until(sub { $duo->sql('us', q{SELECT closed_at[1] IS NULL FROM tide.outbox WHERE name = 'good'}) eq 't' }, 30, 'the segment'),
		'... enabled again, it is emptied');

	$duo->sql('us', q{ALTER TABLE tide.good_inbox ADD CHECK (payload <> '{"bad": true}') NOT VALID});
	$duo->sql('eu', q{SELECT tide.outbox_publish('good', 'e', '{"bad": true}')});
	ok(defined $duo->wait_value('us', 'SELECT count(*) FROM tide.dead_letters', 1), 'a dead letter');
	finds('us', 'warn', 'dead_letters', qr/1 event\(s\) could not be delivered/, qr/dead_letter_retry/, '... is found');
	$duo->sql('us', q{SELECT tide.dead_letter_discard(id) FROM tide.dead_letters});

	$duo->sql('us', q{SELECT tide.outbox_create('unread')});
	($found, $status) = doctor('us');
	is($found->{'outbox unread'}{level}, 'note', 'an outbox nobody reads is noted');
	is($status, 0, '... which is no fault');

	$duo->make_region('unnamed');
	$duo->start_relay('unnamed');
	($found, $status) = doctor('unnamed');
	is($found->{region}{level}, 'note', 'a region without a name is noted');
	like($found->{region}{hint}, qr/region_init/, '... with what to do');
	is($status, 0, '... which is no fault');
	$duo->relay('unnamed')->stop;

	$duo->relay('us')->stop;
	finds('us', 'error', 'pipeline.owner good-out', qr/no relay runs it/, qr/pg_tide relay/, 'no relay');
	$duo->sql('us', q{ALTER ROLE relay SET statement_timeout = 1000});
	finds('us', 'warn', 'timeouts', qr/statement_timeout is 1000 ms/, qr/ALTER ROLE/, 'a time limit that would disturb a relay');
	$duo->sql('us', q{ALTER ROLE relay RESET statement_timeout});

	$duo->node->append_conf('postgresql.conf', "shared_preload_libraries = ''\nfsync = off\n");
	$duo->node->restart;
	$duo->start_relay('us');
	($found, $status) = doctor('us');
	is($found->{preload}{level}, 'note', 'without preloading: noted');
	like($found->{preload}{hint}, qr/shared_preload_libraries/, '... with the setting');
	is($found->{durability}{level}, 'error', 'fsync off is an error');
	like($found->{durability}{message}, qr/fsync is off/, '... with the setting');
	is($status, 1, '... which counts');
	return;
}

$duo->start_relays;
test_healthy();
test_wide();
test_no_domain();
test_gateway();
test_streams();
test_database();
is_deeply($duo->stop_relays, { us => 0, eu => 0, unnamed => 0 }, 'the relays end with status 0');
done_testing();
