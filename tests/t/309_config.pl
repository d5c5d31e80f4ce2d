# What relay_set_outbox and relay_set_inbox refuse, in which words, and that a refused change disturbs nothing.

use strict;
use warnings;

use Test::More;

use PgTide::Duo;
use PgTide::Test qw(wait_until);

my $duo = PgTide::Duo->new;
my %sink = (sink_type => 'nats', url => 'nats://127.0.0.1:4222', stream => 'S', subject_template => 's.{op}');
my %source =
  (source_type => 'nats', url => 'nats://127.0.0.1:4222', stream => 'S', subject => 's.*', durable_name => 'd');
my %inbox = (sink_type => 'inbox', conninfo => 'host=db dbname=x', inbox => 'arrivals');

# What is changed in a good configuration (undef: left out), and what the message must name.
my @sinks = (
	[ 'unknown key', { subjct_template => 'x' }, qr/unknown option "subjct_template"/, qr/Did you mean "subject_template"/ ],
	[ 'key of the other side', { durable_name => 'x' }, qr/"durable_name"/, qr/inbox side/ ],
	[ 'key in another case', { Stream => 'x' }, qr/"Stream"/, qr/"stream"/ ],
	[ 'no sink_type', { sink_type => undef }, qr/"sink_type" is missing/, qr/nats, inbox, stdout/ ],
	[ 'unknown sink_type', { sink_type => 'nts' }, qr/"sink_type".*"nts"/, qr/nats, inbox, stdout/ ],
	[ 'no url', { url => undef }, qr/"url" is missing/, qr/nats:\/\// ],
	[ 'no stream', { stream => undef }, qr/"stream" is missing/, qr/Add/ ],
	[ 'a number for text', { stream => 5 }, qr/"stream" must be a string, not/, qr/double quotes/ ],
	[ 'null for text', { stream => \'null' }, qr/"stream"/, qr/./ ],
	[ 'text for a number', { batch_size => '10' }, qr/"batch_size" must be a number, not/, qr/without quotes/ ],
	[ 'text for a boolean', { tls => 'yes' }, qr/"tls" must be true or false/, qr/./ ],
	[ 'an array', { url => ['nats://a:1'] }, qr/"url" must be a string/, qr/./ ],
	[ 'out of range', { batch_size => 0 }, qr/"batch_size" must be between 1 and 10000/, qr/./ ],
	[ 'a fraction', { batch_size => 1.5 }, qr/"batch_size" must be a whole number/, qr/./ ],
	[ 'empty', { stream => '' }, qr/"stream" is empty/, qr/./ ],
	[ 'a password in url', { url => 'nats://joe:hunter2@h:4222' }, qr/"url".*in clear/, qr/env:NAME/ ],
	[ 'a token in url', { url => 'nats://hunter2@h:4222' }, qr/"url".*in clear/, qr/env:NAME/ ],
	[ 'a password in the second url', { url => 'nats://h:1,nats://joe:hunter2@h:2' }, qr/"url".*in clear/, qr/./ ],
	[ 'a plain password', { user => 'joe', password => 'hunter2' }, qr/"password" must be a reference/, qr/env:NAME.*file:/ ],
	[ 'a plain token', { token => 'hunter2' }, qr/"token" must be a reference/, qr/env:NAME/ ],
	[ 'a plain nkey', { nkey_seed => 'SUAHUNTER2' }, qr/"nkey_seed" must be a reference/, qr/env:NAME/ ],
	[ 'a secret file by relative path', { token => 'file:hunter2' }, qr/"token"/, qr/file:\/path/ ],
	[ 'a user alone', { user => 'joe' }, qr/"user".*"password"/, qr/Add "password"/ ],
	[ 'two logins', { token => 'env:T', credentials_file => '/c' }, qr/"credentials_file".*"token"/, qr/one way/ ],
	[ 'half a certificate', { tls_cert_file => '/c' }, qr/"tls_cert_file".*"tls_key_file"/, qr/Add/ ],
	[ 'a relative file', { tls_ca_file => 'ca.pem' }, qr/"tls_ca_file"/, qr/'\/' on/ ],
	[ 'an unknown variable', { subject_template => 's.{oops}' }, qr/"subject_template".*character 3.*\{oops\}/, qr/\{op\}, \{entity\}/ ],
	[ 'an open brace', { subject_template => 's.{op' }, qr/"subject_template".*'\{'/, qr/./ ],
	[ 'a wildcard', { subject_template => 's.*.{op}' }, qr/"subject_template".*wildcard/, qr/./ ],
	[ 'an empty word', { subject_template => 's..{op}' }, qr/"subject_template".*empty word/, qr/./ ],
	[ 'a subject of the broker', { subject_template => '$JS.{op}' }, qr/"subject_template".*'\$'/, qr/./ ],
	[ 'subject and template', { subject => 's.x' }, qr/"subject".*"subject_template"/, qr/./ ],
	[ 'a wildcard in subject', { subject => 's.>', subject_template => undef }, qr/"subject".*wildcard/, qr/subject_template/ ],
	[ 'a space in the stream', { stream => 'a b' }, qr/"stream".*character/, qr/spaces/ ],
	[ 'a dot in the stream', { stream => 'a.b' }, qr/"stream".*character/, qr/./ ],
	[ 'another scheme', { url => 'http://h:4222' }, qr/"url".*nats:\/\//, qr/./ ],
	[ 'window beyond age', { duplicate_window => 100, max_age => 50 }, qr/"duplicate_window".*"max_age"/, qr/./ ],
);

my @sources = (
	[ 'no consumer', { durable_name => undef }, qr/"durable_name" is missing.*"consumer_group"/, qr/./ ],
	[ 'two consumers', { consumer_group => 'e' }, qr/"durable_name".*"consumer_group"/, qr/./ ],
	[ 'no subject', { subject => undef }, qr/"subject" is missing/, qr/./ ],
	[ 'no subject at all', { subject => 's..x' }, qr/"subject" is not a NATS subject/, qr/./ ],
	[ '> in the middle', { subject => 's.>.x' }, qr/"subject" is not a NATS subject/, qr/'>' at the end/ ],
	[ 'its own peer', { domain => 'a', peer_domain => 'a' }, qr/"peer_domain".*"domain"/, qr/./ ],
	[ 'key of the other side', { subject_template => 's' }, qr/"subject_template"/, qr/outbox side/ ],
	[ 'no such source', { source_type => 'inbox' }, qr/"source_type".*"inbox"/, qr/nats/ ],
);

my @inboxes = (
	[ 'a password in conninfo', { conninfo => 'host=h password=hunter2' }, qr/"conninfo" has a password in clear/, qr/passfile/ ],
	[ 'a password in a URI', { conninfo => 'postgresql://joe:hunter2@h/d' }, qr/"conninfo" has a password in clear/, qr/env:NAME/ ],
	[ 'a password as a parameter', { conninfo => 'postgresql://h/d?password=hunter2' }, qr/"conninfo" has a password/, qr/./ ],
	[ 'a key password', { conninfo => 'host=h sslpassword=hunter2' }, qr/"conninfo" has a password/, qr/./ ],
	[ 'no conninfo', { conninfo => 'hunter2' }, qr/"conninfo" is neither/, qr/keyword=value/ ],
	[ 'no inbox', { inbox => undef }, qr/"inbox" is missing/, qr/./ ],
	[ 'no inbox name', { inbox => 'a b' }, qr/"inbox" is not a name/, qr/./ ],
	[ 'a NATS key', { stream => 'S' }, qr/unknown option "stream"/, qr/conninfo, inbox/ ],
);

sub changed
{
	my ($good, $change) = @_;
	my %config = (%$good, %$change);
	delete $config{$_} for grep { !defined $config{$_} } keys %config;
	$_ = undef for grep { ref eq 'SCALAR' } values %config;
	return PgTide::Duo::jsonb(\%config);
}

sub set
{
	my ($kind, $pipeline, $config) = @_;
	my $target = $kind eq 'outbox' ? 'orders' : 'arrivals';
	return "SELECT tide.relay_set_$kind('$pipeline', '$target', $config)";
}

sub refused
{
	my ($kind, $good, $case) = @_;
	my ($name, $change, $message, $hint) = @$case;
	my $err = $duo->error_of('us', set($kind, 'wrong', changed($good, $change)));
	(my $first) = $err =~ /ERROR:  (.*)/;
	like($err, qr/ERROR:  (22023|42601|42704|22P02|2200[0-9A-Z]|42\w{3}): /, "$kind, $name: refused with a proper code");
	like($first // '', $message, '... which names the key');
	like($err, qr/^HINT: .*$hint/m, '... and says what to do');
	unlike($err, qr/hunter2/i, '... without the secret');
	return;
}

sub test_others
{
	for my $case (
		[ 'NULL::jsonb', qr/must not be null|NULL/i ],
		[ q('[]'::jsonb), qr/object/ ],
		[ q('"text"'::jsonb), qr/object/ ])
	{
		my $err = $duo->error_of('us', set('outbox', 'wrong', $case->[0]));
		like($err, $case->[1], "configuration $case->[0] is refused");
		like($err, qr/^HINT: /m, '... with a hint');
	}
	for my $case ([ 'outbox', 'nosuch' ], [ 'inbox', 'nosuch' ])
	{
		my $err = $duo->error_of('us', "SELECT tide.relay_set_$case->[0]('wrong', 'nosuch', '{}')");
		like($err, qr/42704: $case->[0] "nosuch" does not exist/, "an $case->[0] that is not there");
		like($err, qr/^HINT: .*(orders|arrivals)/m, '... with those that are');
	}
	for my $call (qw(relay_enable relay_disable relay_delete))
	{
		my $err = $duo->error_of('us', "SELECT tide.$call('nosuch')");
		like($err, qr/42704: pipeline "nosuch" does not exist/, "$call of a pipeline that is not there");
		like($err, qr/^HINT: /m, '... with a hint');
	}
	is($duo->sql('us', q{SELECT count(*) FROM tide.pipelines WHERE name = 'wrong'}), 0, 'nothing was stored');
	return;
}

# A refused change leaves the pipeline that runs as it is; so does setting the same again; a good one applies in 2 s.
sub test_running
{
	$duo->start_relays;
	$duo->direct('us', 'out', 'orders', 'eu', 'arrivals');
	ok(defined $duo->wait_state('us', 'out', 'running'), 'a pipeline runs');
	my $before = $duo->sql('us', q{SELECT epoch, version, config FROM tide.pipeline});
	my $pid = $duo->sql('us', q{SELECT owner_pid FROM tide.pipelines});
	my $err = $duo->error_of('us', set('outbox', 'out', changed(\%inbox, { conninfo => 'password=x' })));
	like($err, qr/password in clear/, 'a bad change of it is refused');
	$duo->direct('us', 'out', 'orders', 'eu', 'arrivals');
	$duo->sql('us', q{SELECT tide.outbox_publish('orders', 'order', '{}')});
	ok(defined $duo->wait_count('eu', 'arrivals', 1), 'it goes on');
	is($duo->sql('us', q{SELECT epoch, version, config FROM tide.pipeline}), $before,
		'neither the refused change nor the same configuration again touched it');
	is($duo->sql('us', q{SELECT owner_pid FROM tide.pipelines}), $pid, '... nor its relay');
	is(() = $duo->relay('us')->log_text =~ /pipeline starts/g, 1, '... which started it once');

	$duo->sql('eu', q{SELECT tide.inbox_create('elsewhere')});
	$duo->direct('us', 'out', 'orders', 'eu', 'elsewhere');
	ok(defined wait_until(sub { (() = $duo->relay('us')->log_text =~ /pipeline starts/g) == 2 }, 2,
			'the new configuration'), 'a good change applies within 2 s');
	$duo->sql('us', q{SELECT tide.outbox_publish('orders', 'order', '{}')});
	ok(defined $duo->wait_value('eu', 'SELECT count(*) > 0 FROM tide.elsewhere_inbox', 't'), '... and counts');

	$duo->sql('us', q{SELECT tide.relay_disable('out')});
	ok(defined $duo->wait_state('us', 'out', 'disabled', 2), 'disabled within 2 s');
	ok(defined wait_until(sub { !defined $duo->relay('us')->metric('pg_tide_pipeline_state', qr/"running"/)
				|| $duo->relay('us')->metric('pg_tide_pipeline_state', qr/"running"/) == 0 }, 3, 'the end of the pipeline'),
		'... the relay lets it go');
	$duo->sql('us', q{SELECT tide.relay_enable('out')});
	ok(defined $duo->wait_state('us', 'out', 'running', 5), 'enabled, it runs again');
	$duo->sql('us', q{SELECT tide.relay_delete('out')});
	is($duo->sql('us', 'SELECT count(*) FROM tide.pipelines'), 0, 'deleted');
	is_deeply($duo->stop_relays, { us => 0, eu => 0 }, 'relays end with status 0');
	return;
}

$duo->sql('us', q{SELECT tide.outbox_create('orders'), tide.inbox_create('arrivals')});
$duo->sql('eu', q{SELECT tide.inbox_create('arrivals')});
for my $good ([ 'outbox', \%sink ], [ 'inbox', \%source ], [ 'outbox', \%inbox ])
{
	is($duo->error_of('us', set($good->[0], "good-$good->[0]", changed($good->[1], {}))), '', 'the good one is taken');
}
$duo->sql('us', q{SELECT tide.relay_delete(name) FROM tide.pipelines});
refused('outbox', \%sink, $_) for @sinks;
refused('inbox', \%source, $_) for @sources;
refused('outbox', \%inbox, $_) for @inboxes;
test_others();
test_running();
done_testing();
