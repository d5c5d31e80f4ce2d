# What the relay makes, completes, verifies and leaves alone in NATS.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use PgTide::Duo;
use PgTide::Nats;
use PgTide::Test qw(wait_until);

# Three logins: one that may do everything, one that may not administer, one that may not even publish.
my $users = <<'END';
authorization {
  users: [
    { user: "root", password: "x" },
    { user: "plain", password: "x", permissions: {
        publish: { allow: [ "p.>", "$JS.API.INFO", "$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*",
          "$JS.API.CONSUMER.MSG.NEXT.*.*", "$JS.ACK.>", "_TIDE.>", "_INBOX.>" ] } } },
    { user: "mute", password: "x", permissions: { publish: { allow: [ "$JS.API.>", "_TIDE.>", "_INBOX.>" ] } } }
  ]
}
END

my $duo = PgTide::Duo->new(nats => 0);
my $json = JSON::PP->new->canonical;
my $number = 0;

sub login { return (user => $_[0], password => 'env:TIDE_PASSWORD'); }

# An outbox with a pipeline of the same name.
sub out
{
	my ($name, %config) = @_;
	$duo->sql('us', "SELECT tide.outbox_create('$name')") unless $duo->sql('us', "SELECT count(*) FROM tide.outbox WHERE name = '$name'");
	$duo->outbox_to_nats('us', $name, $name, login('root'), %config);
	return;
}

sub publish
{
	my ($outbox, %args) = @_;
	my $op = $args{op} // 'insert';
	return $duo->sql('us', "SELECT tide.outbox_publish('$outbox', 'e', '{}', op => '$op')");
}

sub config_of
{
	my ($stream) = @_;
	return $duo->nats->ctl('stream-info', $stream)->{config};
}

sub make
{
	my ($stream, %config) = @_;
	$duo->nats->ctl('stream-create', $stream, $json->encode({ name => $stream, storage => 'file', %config }));
	return config_of($stream);
}

sub failed
{
	my ($db, $pipeline, $pattern, $name) = @_;
	ok(defined $duo->wait_error($db, $pipeline, $pattern), $name);
	return ok(defined $duo->wait_state($db, $pipeline, 'failed'), '... and the pipeline has failed');
}

# ---- what is made ----

sub test_subjects
{
	my %templates = (
		'a.{op}.us-east'                => 'a.*.us-east',
		'b.{outbox}.{region}.{entity}'  => 'b.%s.us-east.*',
		'c.x-{op}-y.{key}.{event_type}' => 'c.*.*.*',
		'd.fixed'                       => 'd.fixed',
		'e.{op}{entity}'                => 'e.*',
		'{entity}.f.g'                  => '*.f.g',
		''                              => '%s.*');    # the default
	my %name;
	for my $template (sort keys %templates)
	{
		my $name = $name{$template} = 'subject' . ++$number;
		out($name, stream => uc $name, length $template ? (subject_template => $template) : ());
		publish($name);
	}
	for my $template (sort keys %templates)
	{
		my $name = $name{$template};
		ok(defined wait_until(sub { ($duo->nats->stream_messages(uc $name) // 0) == 1 }, 20, "a message in $name"), "template \"$template\": the stream is made")
		  or diag($duo->sql('us', "SELECT last_error FROM tide.pipelines WHERE name = '$name'"));
		is_deeply(config_of(uc $name)->{subjects}, [ sprintf $templates{$template}, $name ], '... for its subjects and no more');
	}
	$duo->sql('us', q{SELECT tide.relay_delete(name) FROM tide.pipelines});
	ok(defined wait_until(sub { !grep { /pipeline="subject/ } keys %{ $duo->relay('us')->metrics } }, 10, 'the end of the pipelines'), 'deleted pipelines stop');
	$duo->nats->ctl('stream-delete', uc $_) for values %name;
	return;
}

sub test_settings
{
	out('settings', stream => 'SETTINGS', subject_template => 'set.{op}', max_age => 3600, duplicate_window => 600, max_bytes => 50_000_000);
	out('defaults', stream => 'DEFAULTS', subject_template => 'def.{op}');
	ok(defined $duo->wait_state('us', $_, 'running'), "$_: the pipeline runs") for qw(settings defaults);
	my %wanted = (
		SETTINGS => { max_age => 3600e9, duplicate_window => 600e9, max_bytes => 50_000_000, discard => 'new' },
		DEFAULTS => { max_age => 604_800e9, duplicate_window => 7200e9, max_bytes => -1, discard => 'old' });
	for my $stream (sort keys %wanted)
	{
		my $config = config_of($stream);
		my %all = (%{ $wanted{$stream} }, storage => 'file', retention => 'limits', num_replicas => 1, max_msgs => -1);
		is($config->{$_}, $all{$_}, "$stream: $_") for sort keys %all;
	}
	return;
}

sub test_two_into_one
{
	out('one', stream => 'SHARED', subject_template => 'one.{op}');
	out('two', stream => 'SHARED', subject_template => 'two.{op}');
	ok(defined $duo->wait_state('us', $_, 'running'), "two pipelines into one stream: $_ runs") for qw(one two);
	publish($_) for qw(one two one);
	ok(defined wait_until(sub { ($duo->nats->stream_messages('SHARED') // 0) == 3 }, 20, '3 messages'), '... both publish');
	is_deeply([ sort @{ config_of('SHARED')->{subjects} } ], [ 'one.*', 'two.*' ], '... the stream has the subjects of both');
	my $before = $json->encode(config_of('SHARED'));
	$duo->relay('us')->stop;
	$duo->start_relay('us');
	publish($_) for qw(one two);
	ok(defined wait_until(sub { $duo->nats->stream_messages('SHARED') == 5 }, 20, '5 messages'), '... after a restart, too');
	is($json->encode(config_of('SHARED')), $before, '... which changes nothing');

	out('three', stream => 'OVERLAP', subject_template => 'one.insert');
	failed('us', 'three', qr/overlap/, 'a subject that another stream has');
	$duo->sql('us', q{SELECT tide.relay_delete('three')});
	return;
}

# ---- what is left alone ----

sub test_foreign_streams
{
	my $before = $json->encode(make('FOREIGN', subjects => ['f.other'], description => 'not yours'));
	out('foreign', stream => 'FOREIGN', subject_template => 'f.{op}');
	failed('us', 'foreign', qr/stream "FOREIGN" was not made by pg_tide.*subjects must cover "f\.\*"/, 'a foreign stream without our subject: said what it lacks');
	is($json->encode(config_of('FOREIGN')), $before, '... and it was not touched');
	publish('foreign', op => 'other');
	is($duo->nats->stream_messages('FOREIGN'), 0, '... nothing was published into it either');
	my $config = JSON::PP::decode_json($before);
	$config->{subjects} = ['f.>'];
	$duo->nats->ctl('stream-update', 'FOREIGN', $json->encode($config));
	ok(defined $duo->wait_state('us', 'foreign', 'running', 40), 'put right by its owner: it is used');
	ok(defined wait_until(sub { $duo->nats->stream_messages('FOREIGN') == 1 }, 20, 'a message'), '... and takes what waited');
	is($json->encode(config_of('FOREIGN')), $json->encode($config), '... as it is');

	make('MEMORY', subjects => ['mem.>'], storage => 'memory');
	out('memory', stream => 'MEMORY', subject_template => 'mem.{op}');
	failed('us', 'memory', qr/stream "MEMORY".*memory/, 'a stream in memory');
	make('NOACK', subjects => ['noack.>'], no_ack => JSON::PP::true);
	out('noack', stream => 'NOACK', subject_template => 'noack.{op}');
	failed('us', 'noack', qr/stream "NOACK".*no_ack/, 'a stream that acknowledges nothing');
	make('MIRROR', mirror => { name => 'FOREIGN' });
	out('mirror', stream => 'MIRROR', subject_template => 'mirror.{op}');
	failed('us', 'mirror', qr/stream "MIRROR".*mirror/, 'a mirror');
	return;
}

sub test_provision_false
{
	out('absent', stream => 'ABSENT', subject_template => 'absent.{op}', provision => JSON::PP::false);
	failed('us', 'absent', qr/stream "ABSENT" does not exist and "provision" is false/, 'provision false, no stream');
	is($duo->nats->stream_messages('ABSENT'), undef, '... none is made');
	make('ABSENT', subjects => ['absent.*']);
	ok(defined $duo->wait_state('us', 'absent', 'running', 40), 'made by somebody else: it is used');
	out('defaults', stream => 'DEFAULTS', subject_template => 'def2.{op}', provision => JSON::PP::false);
	failed('us', 'defaults', qr/stream "DEFAULTS" may not be changed.*"def2\.\*"/, 'provision false, a stream of ours without the subject');
	is_deeply(config_of('DEFAULTS')->{subjects}, ['def.*'], '... is not changed');

	$duo->sql('eu', q{SELECT tide.inbox_create('in')});
	$duo->inbox_from_nats('eu', 'in', 'in', stream => 'ABSENT', subject => 'absent.*', login('root'), provision => JSON::PP::false);
	failed('eu', 'in', qr/consumer "in".*"provision" is false|consumer "in".*does not exist/, 'provision false, no consumer');
	is_deeply($duo->nats->ctl('consumer-names', 'ABSENT')->{consumers} // [], [], '... none is made');
	return;
}

sub test_consumers
{
	$duo->sql('eu', q{SELECT tide.inbox_create('in2')});
	my %consumer = (durable_name => 'theirs', ack_policy => 'explicit', deliver_policy => 'all', filter_subject => 'f.nothing', description => 'not yours');
	$duo->nats->ctl('consumer-create', 'FOREIGN', 'theirs', $json->encode({ stream_name => 'FOREIGN', config => \%consumer }));
	my $before = $json->encode($duo->nats->ctl('consumer-info', 'FOREIGN', 'theirs')->{config});
	$duo->inbox_from_nats('eu', 'in2', 'in2', stream => 'FOREIGN', subject => 'f.*', durable_name => 'theirs', login('root'));
	failed('eu', 'in2', qr/consumer "theirs".*(filter|f\.nothing)/, 'a consumer with another filter');
	is($json->encode($duo->nats->ctl('consumer-info', 'FOREIGN', 'theirs')->{config}), $before, '... is not changed');
	$duo->inbox_from_nats('eu', 'in2', 'in2', stream => 'FOREIGN', subject => 'f.*', durable_name => 'ours', login('root'));
	ok(defined $duo->wait_count('eu', 'in2', 1), 'a consumer of our own is made, and reads');
	my $config = $duo->nats->ctl('consumer-info', 'FOREIGN', 'ours')->{config};
	is($config->{filter_subject}, 'f.*', '... with the subject as its filter');
	like($config->{ack_policy}, qr/^(explicit|all)$/, '... acknowledged by us');
	return;
}

# ---- rights ----

sub test_permissions
{
	out('plain', stream => 'PLAIN', subject_template => 'p.{op}', login('plain'));
	ok(defined $duo->wait_error('us', 'plain', qr/(permission|Permissions|not permitted|refused).*(STREAM\.CREATE|PLAIN)/i),
		'no right to create streams: the error says so') or diag($duo->sql('us', q{SELECT last_error FROM tide.pipelines WHERE name = 'plain'}));
	make('PLAIN', subjects => ['p.*']);
	ok(defined $duo->wait_state('us', 'plain', 'running', 40), '... a stream made by somebody else is used without that right');
	publish('plain');
	ok(defined wait_until(sub { $duo->nats->stream_messages('PLAIN') == 1 }, 20, 'a message'), '... and published to');

	make('MUTE', subjects => ['mute.*']);
	out('mute', stream => 'MUTE', subject_template => 'mute.{op}', login('mute'));
	publish('mute');
	ok(defined $duo->wait_error('us', 'mute', qr/(permission|refused).*mute\.insert/i), 'no right to publish: the error names the subject')
	  or diag($duo->sql('us', q{SELECT last_error FROM tide.pipelines WHERE name = 'mute'}));
	is($duo->sql('us', q{SELECT count(*) FROM tide.dead_letters}), 0, '... no event is given up for it');

	publish('one');
	ok(defined wait_until(sub { $duo->nats->stream_messages('SHARED') == 6 }, 20, '6 messages'), 'the other pipelines go on all the while');
	return;
}

# ---- two domains, a leaf node between ----

sub leaf_config
{
	my ($domain, $port, $leaf) = @_;
	return qq(server_name: "$domain"\nlisten: "127.0.0.1:$port"\njetstream { store_dir: "data", domain: "$domain" }\nleafnodes { $leaf }\n);
}

sub test_domains
{
	my $us = PgTide::Nats->new(name => 'us', url => 'nats://127.0.0.1:4232', config => leaf_config('us-east', 4232, 'listen: "127.0.0.1:7422"'))->start;
	my $eu = PgTide::Nats->new(name => 'eu', url => 'nats://127.0.0.1:4233',
		config => leaf_config('eu-west', 4233, 'reconnect: 1, remotes: [ { url: "nats-leaf://127.0.0.1:7422" } ]'))->start;
	ok(defined wait_until(sub { ($us->ctl_status('--timeout', 1000, '--domain', 'eu-west', 'account-info'))[0] == 0 }, 30, 'the link'), 'two domains, joined');
	my %url = (us => 'nats://127.0.0.1:4232', eu => 'nats://127.0.0.1:4233');
	for my $name (qw(given found))
	{
		$duo->sql('us', "SELECT tide.outbox_create('$name')");
		$duo->sql('eu', "SELECT tide.inbox_create('$name')");
		$duo->outbox_to_nats('us', $name, $name, url => $url{us}, stream => uc $name, subject_template => "$name.{op}.us", domain => 'us-east');
		$duo->inbox_from_nats('eu', $name, $name, url => $url{eu}, stream => uc $name, subject => "$name.*.us",
			$name eq 'given' ? (peer_domain => 'us-east') : ());
		publish($name);
		ok(defined $duo->wait_count('eu', $name, 1, 60), $name eq 'given' ? 'peer_domain given: events cross' : 'peer_domain left out: the relays find each other');
		my $sources = $eu->ctl('stream-info', uc $name)->{config}{sources};
		is(scalar @$sources, 1, '... by one source');
		is($sources->[0]{filter_subject}, "$name.*.us", '... for the subject wanted, no more');
		is($sources->[0]{external}{api}, '$JS.us-east.API', '... from the other domain');
		is_deeply($eu->ctl('stream-info', uc $name)->{config}{subjects} // [], [], '... and nothing is captured off the wire');
	}
	$duo->inbox_from_nats('eu', 'given', 'given', url => $url{eu}, stream => 'GIVEN', subject => 'given.*.us', peer_domain => 'eu-west');
	failed('eu', 'given', qr/"peer_domain" is "eu-west", which is the JetStream domain of .* itself/, 'peer_domain that is one\'s own');
	$duo->outbox_to_nats('us', 'found', 'found', url => $url{us}, stream => 'FOUND', subject_template => 'found.{op}.us', domain => 'nowhere');
	ok(defined $duo->wait_error('us', 'found', qr/nowhere/), 'a domain that is not there: the error names it')
	  or diag($duo->sql('us', q{SELECT last_error FROM tide.pipelines WHERE name = 'found'}));

	# Both regions on the same subject would send everything round in circles: refused.
	$duo->sql('eu', q{SELECT tide.outbox_create('circle'), tide.inbox_create('circle')});
	$duo->sql('us', q{SELECT tide.outbox_create('circle'), tide.inbox_create('circle')});
	$duo->outbox_to_nats($_, 'circle-out', 'circle', url => $url{$_}, stream => 'CIRCLE', subject_template => 'circle.{op}') for qw(us eu);
	ok(defined $duo->wait_state($_, 'circle-out', 'running'), "circle: $_ publishes") for qw(us eu);
	$duo->inbox_from_nats('eu', 'circle-in', 'circle', url => $url{eu}, stream => 'CIRCLE', subject => 'circle.*', peer_domain => 'us-east');
	failed('eu', 'circle-in', qr/stream "CIRCLE".*circles/, 'a circle is refused');
	is_deeply($eu->ctl('stream-info', 'CIRCLE')->{config}{sources} // [], [], '... the stream stays as it was');
	return;
}

$duo->start_nats($duo->nats_config($users), ctl_options => [ '--user', 'root', '--password', 'x' ]);
$duo->start_relay($_, env => { TIDE_PASSWORD => 'x' }) for qw(us eu);
test_subjects();
test_settings();
test_two_into_one();
test_foreign_streams();
test_provision_false();
test_consumers();
test_permissions();
test_domains();
is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
